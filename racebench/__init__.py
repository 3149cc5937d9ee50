"""racebench reproduces, proves and measures the races that happen when applications number rows."""

__version__ = "0.1.0"
