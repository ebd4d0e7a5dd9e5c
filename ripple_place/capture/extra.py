"""The one place that asks whether torch and transformers are installed."""

from __future__ import annotations

from importlib.util import find_spec

from ripple_place.errors import UnsupportedError
from ripple_place.extras import install_command


def missing_packages() -> list[str]:
    """Return the packages of the extra ``capture`` that are not installed; none of them is imported."""
    return [name for name in ("torch", "transformers") if find_spec(name) is None]


def require_torch(path: object) -> None:
    """Raise unless torch is installed, which writes the file at `path`; it is not imported.

    Raises
    ------
    UnsupportedError
        If it is missing; says what to install.
    """
    if "torch" in missing_packages():
        raise UnsupportedError(
            path, found="no torch to write its files with", expected="the packages of the extra `capture`",
            remedy=install_command("capture"),
        )  # fmt: skip


def require_capture_extra(model: object) -> None:
    """Raise unless the packages that run a model are installed; none of them is imported.

    Raises
    ------
    UnsupportedError
        If torch or transformers is missing; says what to install.
    """
    if missing := missing_packages():
        raise UnsupportedError(
            model, found=f"a model, and no {' and no '.join(missing)} to run it",
            expected="the packages of the extra `capture`", remedy=install_command("capture"),
        )  # fmt: skip
