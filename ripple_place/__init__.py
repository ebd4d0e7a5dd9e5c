"""Lay out a language model's FFN neurons for flash, prove the checkpoint unchanged, and simulate the gain.

The package is used through its subpackages (``ripple_place.workflows`` first of all); importing it loads none of
them, so that ``ripple-place --help`` starts at once.
"""

__version__ = "0.1.0"
