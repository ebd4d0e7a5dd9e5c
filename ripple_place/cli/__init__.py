"""The command line: one thin module for each command; importing it loads neither numpy nor numba."""
