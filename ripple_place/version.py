"""The version of the package, which outputs record."""

__version__ = "0.1.0"


def is_later_version(found: object, known: str) -> bool:
    """Tell whether a file's format is one of ours in a later version than the one that is known here.

    >>> is_later_version("ripple-place.trace/2", "ripple-place.trace/1"), is_later_version("pt", "ripple-place.trace/1")
    (True, False)
    """
    name, _, version = known.partition("/")
    own, _, later = str(found).partition("/")
    return own == name and later.isascii() and later.isdigit() and len(later) < 10 and int(later) > int(version)
