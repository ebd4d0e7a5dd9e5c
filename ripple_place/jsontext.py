"""JSON that comes from elsewhere."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is none, holds a number of thousands of digits, or nests deeper than the interpreter's stack.
    """
    try:
        return json.loads(text)
    except RecursionError as cause:
        raise ValueError(f"brackets nested too deep ({cause})") from cause
