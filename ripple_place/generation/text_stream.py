"""Turns tokens into text piece by piece, as they come."""

from __future__ import annotations

from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of tokens so far; a character of several tokens is shown once it is whole.

    Parameters
    ----------
    tokenizer : transformers tokenizer

    Attributes
    ----------
    token_ids : list of int
    text : str
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.token_ids: list[int] = []
        self.text = ""

    def add(self, token_id: int) -> str:
        """Take a token; return the text that it completes."""
        self.token_ids.append(token_id)
        text = self._tokenizer.decode(self.token_ids, skip_special_tokens=True)
        if text.endswith(_UNFINISHED) or not text.startswith(self.text):
            return ""
        piece, self.text = text[len(self.text) :], text
        return str(piece)

    def end(self) -> str:
        """Return what is left: of a character that was never completed, too."""
        text = str(self._tokenizer.decode(self.token_ids, skip_special_tokens=True))
        piece = text[len(self.text) :] if text.startswith(self.text) else ""
        self.text = text
        return piece
