"""Generates and scores text with the FFN weights left on storage."""

from __future__ import annotations

import inspect
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.model import read_tokenizer
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import UsageError
from ripple_place.generation.activities import check_routed, make_activities
from ripple_place.generation.expert_skeleton import ExpertSkeleton
from ripple_place.generation.meter import Meter
from ripple_place.generation.params import GenerationParams
from ripple_place.generation.skeleton import Skeleton
from ripple_place.generation.stored_experts import StoredExperts
from ripple_place.generation.stored_ffn import StoredFfn
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ripple_place.generation.bare_model import BareModel
    from ripple_place.generation.step import Step
    from ripple_place.runtime.layout_reader import LayoutReader


class Generator:
    """A model that reads its FFNs from storage.

    Parameters
    ----------
    skeleton : BareModel
        With its weights, and FFNs connected.
    ffns : sequence of StoredFfn or StoredExperts
        In model order.
    reader : LayoutReader
    params : GenerationParams

    Attributes
    ----------
    params : GenerationParams
    reader : LayoutReader
    model : transformers.PreTrainedModel
    eos_token_ids : frozenset of int
        Tokens that end a text.
    """

    def __init__(
        self, skeleton: BareModel, ffns: Sequence[StoredFfn | StoredExperts], reader: LayoutReader,
        params: GenerationParams,
    ) -> None:  # fmt: skip
        self.params, self.reader, self._skeleton, self._ffns = params, reader, skeleton, tuple(ffns)
        self._out = out = skeleton.manifest.out
        self.model = skeleton.model
        self.eos_token_ids = _ending_tokens(skeleton, out)
        self._meter = Meter(reader, [ffn.activity for ffn in ffns if isinstance(ffn, StoredFfn)])
        taken = inspect.signature(self.model.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        self._only_last = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self._tokenizer: Any = None
        self.model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)

    @classmethod
    def open(
        cls, out: str | os.PathLike[str], reader: LayoutReader, params: GenerationParams | None = None,
        track: Track = no_track,
    ) -> Generator:  # fmt: skip
        """Load what stays in memory of an output of `reorder`.

        Parameters
        ----------
        out : path-like
        reader : LayoutReader
            Of the same output; it stays the caller's to close.
        params : GenerationParams, optional
        track : Track
            Receives progress updates.

        Raises
        ------
        UnsupportedError
            If torch is missing, or the model is none whose FFNs can be read so.
        UsageError
            If the activity lacks something.
        CheckpointError, OSError
            If the output is malformed, or cannot be read.
        """
        require_capture_extra(out)
        import torch

        params, manifest = params or GenerationParams(), read_manifest(out)
        with torch.inference_mode():
            if manifest.document.get("unit") == EXPERT:
                check_routed(params)
                mixture = ExpertSkeleton(manifest, params.dtype)
                mixture.load()
                experts = [StoredExperts(form, reader, mixture.modules[name]) for name, form in mixture.forms.items()]
                return cls(mixture, experts, reader, params)
            skeleton = Skeleton(manifest, params.dtype)
            skeleton.load()
            activities = make_activities(skeleton, manifest, reader, params, track)
            ffns = []
            for block, place in skeleton.places.items():
                is_whole = reader.row_bytes(block) == place.form.row_bytes
                ffn = StoredFfn(
                    place.form if is_whole else place.form.without_gate(), reader, activities[block], place.function,
                    is_gated=place.form.is_gated, biases=skeleton.biases(block), down_bias=skeleton.down_bias(block),
                )  # fmt: skip
                skeleton.connect(block, ffn)
                ffns.append(ffn)
        return cls(skeleton, ffns, reader, params)

    @property
    def tokenizer(self) -> Any:
        """The output's tokenizer.

        Raises
        ------
        CheckpointError, UnsupportedError
            If it has none, or transformers cannot read it.
        """
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._out)
        return self._tokenizer

    @property
    def dtype(self) -> str:
        """What the model computes in, one of `ripple_place.generation.params.DTYPES`."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def resident_bytes(self) -> int:
        """Memory of what stays: the model without its FFNs, what decides, and the reader's DRAM cache."""
        deciding = sum(ffn.n_bytes for ffn in self._ffns)
        return self._skeleton.n_bytes + deciding + self.reader.dram_bytes

    def generate(self, token_ids: Sequence[int]) -> Iterator[Step]:
        """Yield the steps of a greedy continuation, up to `max_tokens` or a token that ends the text.

        Parameters
        ----------
        token_ids : sequence of int
            The prompt, at least one token.

        Yields
        ------
        Step
            First those of the prompt; the last of them has the first new token.

        Raises
        ------
        UsageError
            If the prompt is empty, has unknown tokens, or is too long.
        OSError, CheckpointError
            If storage refuses, or the file was changed; no token of that step is returned.
        """
        import torch

        self._check(token_ids, self.params.max_tokens)
        cache, token = None, None
        size = self.params.prefill_rows
        for first in range(0, len(token_ids), size):
            is_last = first + size >= len(token_ids)
            cache, logits, costs = self._run(token_ids[first : first + size], cache)
            scores = logits[0, -1].float()
            token = int(scores.argmax()) if is_last else None
            nll = None if token is None else float(torch.logsumexp(scores, 0) - scores[token])
            yield costs(token, nll, is_prefill=True)
        for _ in range(self.params.max_tokens - 1):
            assert token is not None
            if token in self.eos_token_ids:
                return
            cache, logits, costs = self._run([token], cache)
            scores = logits[0, -1].float()
            token = int(scores.argmax())
            yield costs(token, float(torch.logsumexp(scores, 0) - scores[token]), is_prefill=False)

    def score(self, token_ids: Sequence[int]) -> Iterator[Step]:
        """Yield a step for each token of a text but the last, one at a time, with the NLL of the one that follows.

        Parameters
        ----------
        token_ids : sequence of int
            At least two.

        Raises
        ------
        UsageError, OSError, CheckpointError
            As `generate`.
        """
        import torch

        self._check(token_ids, 0)
        if len(token_ids) < 2:
            raise UsageError(
                "text", found="a single token", expected="two or more, of which the first is given",
                remedy="give a longer text to be scored",
            )  # fmt: skip
        cache = None
        for given, following in pairwise(token_ids):
            cache, logits, costs = self._run([given], cache)
            scores = logits[0, -1].float()
            nll = float(torch.logsumexp(scores, 0) - scores[following])
            yield costs(int(following), nll, is_prefill=False, best_id=int(scores.argmax()))

    def _run(self, token_ids: Sequence[int], cache: Any) -> tuple[Any, Any, Any]:
        """Run the model on the next tokens; return its KV cache, its logits, and what makes a step of the costs."""
        import torch

        self._meter.start()
        begun_ns = time.perf_counter_ns()
        for ffn in self._ffns:
            ffn.start()
        with torch.inference_mode():
            output = self.model(
                input_ids=torch.tensor([list(token_ids)]), use_cache=True, return_dict=True,
                **{self._cache_name: cache}, **self._only_last,
            )  # fmt: skip
            logits = output.logits
        elapsed_us = (time.perf_counter_ns() - begun_ns) / 1e3
        return output[self._cache_name], logits, self._meter.step_of(len(token_ids), elapsed_us)

    def _check(self, token_ids: Sequence[int], n_more: int) -> None:
        n_known = int(self.model.get_input_embeddings().weight.shape[0])
        if not len(token_ids) or not all(0 <= token < n_known for token in token_ids):
            raise UsageError(
                "prompt", found="tokens that the model does not have" if len(token_ids) else "no tokens",
                expected=f"one or more, from 0 to {n_known - 1}",
                remedy="give a text, and take the tokenizer of this model",
            )  # fmt: skip
        n_positions = getattr(self._skeleton.config.get_text_config(), "max_position_embeddings", None)
        if n_positions is not None and len(token_ids) + n_more > n_positions:
            raise UsageError(
                "prompt", found=f"{len(token_ids)} tokens and {n_more} to come", expected=f"at most {n_positions}, "
                "for which the model has positions", remedy="shorten the text, or lower --max-tokens",
            )  # fmt: skip


def _in_one_piece(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the last token's state out of those of a prompt: on a part of them, torch copies the head's whole weight."""
    return (inputs[0].flatten().clone().view(inputs[0].shape), *inputs[1:])


def _ending_tokens(skeleton: BareModel, out: Path) -> frozenset[int]:
    """Return the tokens after which transformers ends a text."""
    from transformers import GenerationConfig

    if (out / "generation_config.json").is_file():
        config = GenerationConfig.from_pretrained(out, local_files_only=True)
    else:
        config = skeleton.model.generation_config
    ending = config.eos_token_id
    if ending is None:
        return frozenset()
    return frozenset([ending] if isinstance(ending, int) else ending)
