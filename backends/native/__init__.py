"""The runner `edgelut-runner`: a program in C that runs and times ONNX models where there is no Python, and how it is built."""
