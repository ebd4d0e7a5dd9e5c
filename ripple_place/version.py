"""The version of the package, which outputs record."""

__version__ = "0.1.0"
