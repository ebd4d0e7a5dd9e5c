"""The one place that asks whether torch and transformers are there."""

from __future__ import annotations

from importlib.util import find_spec

from ripple_place.errors import UnsupportedError


def require_capture_extra(model: object) -> None:
    """Raise unless the packages that run a model are installed; none of them is imported.

    Raises
    ------
    UnsupportedError
        If torch or transformers is missing; says what to install.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            model, found=f"a model, and no {' and no '.join(missing)} to run it",
            expected="the packages of the extra `capture`", remedy="run: pip install 'ripple-place[capture]'",
        )  # fmt: skip
