"""The REST API: parse, one call, a value."""
