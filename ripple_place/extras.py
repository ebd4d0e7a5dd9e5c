"""Packages that only some commands need, and how they are installed."""

from __future__ import annotations

EXTRAS = {"capture": ("torch>=2.4", "transformers>=5.0"), "gguf": ("gguf>=0.10",)}
"""As pyproject.toml lists them. By their own names they are installed from any index, wherever this package is from."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra's packages.

    >>> install_command("gguf")
    "run: pip install 'gguf>=0.10'"
    """
    return f"run: pip install {' '.join(map(repr, EXTRAS[extra]))}"
