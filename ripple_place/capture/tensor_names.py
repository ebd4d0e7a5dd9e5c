"""What transformers calls the tensors of a checkpoint: its own tables rename them, and fuse experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable


class TensorNames:
    """Names on disk to names in a model.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.

    Attributes
    ----------
    mapping : list
        Transformers' renamings and fusions for this model.

    Raises
    ------
    UnsupportedError
        If transformers is too old to have such tables.
    """

    def __init__(self, model: Any) -> None:
        try:
            from transformers.conversion_mapping import get_model_conversion_mapping
        except ImportError as cause:
            raise UnsupportedError(
                "profile MODEL", found="a transformers without weight conversion tables", expected="transformers 5",
                remedy="update transformers",
            ) from cause  # fmt: skip
        self._model = model
        self.mapping = list(get_model_conversion_mapping(model))

    def translate(self, names: Iterable[str]) -> dict[str, tuple[str, bool]]:
        """Return, for each name on disk, that of the model, and whether the tensor is converted on the way.

        Parameters
        ----------
        names : iterable of str
            All names of the checkpoint: some renamings depend on which others there are.
        """
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )

        renamings = [entry for entry in self.mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self.mapping if isinstance(entry, WeightConverter)]
        state, prefix = self._model.state_dict(), self._model.base_model_prefix
        translated = {}
        for name in sorted(names, key=dot_natural_key):
            target, pattern = rename_source_key(name, renamings, converters, prefix, state)
            if target not in state and name in state:
                target, pattern = name, None
            translated[name] = (target, pattern is not None)
        return translated
