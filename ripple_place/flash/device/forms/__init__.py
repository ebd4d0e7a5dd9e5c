"""The forms of a device: one class each of how the time of a request follows from its size, and the registry."""
