"""What the runtime `coreml` and the device `iphone` share: Apple's tools, and Core ML's plan of where operations run."""
