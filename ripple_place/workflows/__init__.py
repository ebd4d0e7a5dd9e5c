"""The commands as functions: one each, reading as the method."""
