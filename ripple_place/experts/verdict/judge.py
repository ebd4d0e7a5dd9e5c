"""The verdict on the routes of a mixture: what they say before anything is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.experts.verdict.communities import Communities, communities
from ripple_place.experts.verdict.hit_curves import SLOT_SHARES, HitCurves, hit_curves
from ripple_place.experts.verdict.hot_set import HotSet, hot_set, new_experts
from ripple_place.experts.verdict.orders import OrderReads, count_reads, greedy_order
from ripple_place.experts.verdict.reuse import Reuse, reuse
from ripple_place.trace.activation_trace import DECODE
from ripple_place.tracking import no_track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Int32Array
    from ripple_place.experts.accesses import ExpertAccesses
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track

PIECES = 3
"""Gate, up and down of an expert lie in three places of a checkpoint or GGUF file."""
COMMUNITY_LAYERS = 3
"""Layers whose communities are sought: the first, one in the middle and the last."""


@dataclass(frozen=True, eq=False)
class LayerVerdict:
    """What is said of one layer."""

    hot: HotSet
    reuse: Reuse
    communities: Communities | None


@dataclass(frozen=True, eq=False)
class ExpertVerdict:
    """What routes say.

    Attributes
    ----------
    n_experts, per_token : mapping of str to int, mapping of str to float
        By layer: experts, and how many of them a generated token uses.
    n_prompt_tokens, n_decoded : int
    unit_bytes : mapping of str to int
        Of an expert by layer; empty where unknown.
    layers : mapping of str to LayerVerdict
    new_share : tuple of float
        By tenth of the generated tokens, the share of routings to experts that nothing used before.
    curves : HitCurves
        Judged on the second half of the generated tokens; what is hottest is told by all tokens before.
    device : str or None
    read_us : float or None
        Time of reading one expert on the device, in one piece among many.
    pieces_us : float or None
        The same in three pieces, as in a checkpoint.
    begin_us : float or None
        What each read takes besides its bytes: no order of experts saves more of each.
    orders : OrderReads or None
        Reads by the order of experts; None where too few tokens were generated to make one and to judge it.
    """

    n_experts: Mapping[str, int]
    per_token: Mapping[str, float]
    n_prompt_tokens: int
    n_decoded: int
    unit_bytes: Mapping[str, int]
    layers: Mapping[str, LayerVerdict]
    new_share: tuple[float, ...]
    curves: HitCurves
    device: str | None = None
    read_us: float | None = None
    pieces_us: float | None = None
    begin_us: float | None = None
    orders: OrderReads | None = None

    @property
    def order_saves(self) -> float | None:
        """Share of reading packed experts that an order by co-activation saves, held out; None where unknown.

        Without a device, it is the share of reads, which reading cannot fall more than.
        """
        if self.orders is None:
            return None
        if self.read_us is None or self.begin_us is None:
            return self.orders.saved_share
        begins_us = (self.orders.original - self.orders.greedy) * self.begin_us
        original_us = self.orders.alone * self.read_us - (self.orders.alone - self.orders.original) * self.begin_us
        return begins_us / original_us if original_us > 0 else 0.0

    @property
    def token_bytes(self) -> float | None:
        """Bytes of the experts that a generated token uses; None where unknown."""
        if not self.unit_bytes:
            return None
        return sum(self.per_token[name] * self.unit_bytes[name] for name in self.per_token)

    @property
    def model_bytes(self) -> int | None:
        """Bytes of all experts; None where unknown."""
        return sum(n * self.unit_bytes[name] for name, n in self.n_experts.items()) if self.unit_bytes else None

    def mean(self, of: str, place: int | None = None) -> float:
        """Return the mean over layers of a number of their hot sets or reuse (``hot.top_shares`` and a place)."""
        values = []
        for layer in self.layers.values():
            part, _, key = of.partition(".")
            value = getattr(getattr(layer, part), key)
            value = value if place is None else value[place]
            if value is not None:
                values.append(float(value))
        return float(np.mean(values)) if values else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a document."""
        return {
            "unit": "expert",
            "n_experts": dict(self.n_experts),
            "experts_per_token": dict(self.per_token),
            "n_prompt_tokens": self.n_prompt_tokens,
            "n_decoded_tokens": self.n_decoded,
            "expert_bytes": dict(self.unit_bytes) or None,
            "bytes_per_token": self.token_bytes,
            "new_share_by_tenth": list(self.new_share),
            "slots": list(self.curves.slots),
            "hit_ratio": {policy: list(ratios) for policy, ratios in self.curves.hit_ratio.items()},
            "device": self.device,
            "read_us": self.read_us,
            "pieces_us": self.pieces_us,
            "begin_us": self.begin_us,
            "reads_per_token_by_order": None if self.orders is None else asdict(self.orders),
            "order_saves": self.order_saves,
            "layers": {
                name: {
                    **asdict(layer.hot), **asdict(layer.reuse),
                    "communities": None if layer.communities is None else asdict(layer.communities),
                    "lru_hit_ratio": list(self.curves.by_layer[name]),
                }
                for name, layer in self.layers.items()
            },
        }  # fmt: skip


def judge_experts(
    trace: ActivationTrace, device: DeviceProfile | None = None, track: Track = no_track, seed: int = 0
) -> ExpertVerdict:
    """Return what the routes of a mixture say.

    Parameters
    ----------
    trace : ActivationTrace
        Of experts; without phases, all tokens count as generated.
    device : DeviceProfile, optional
        Whose times reads are given.
    track : Track
        Receives progress.
    seed : int
        Of comparisons with chance.

    Raises
    ------
    UsageError
        If the trace is of another unit.

    Notes
    -----
    Deterministic. Seconds for ten thousand routings a layer; the communities of 512 experts take a few more.
    """
    accesses, decoded = list_accesses(trace), _decoded(trace)
    n_layers = len(trace.blocks)
    sought = {0, n_layers // 2, n_layers - 1} if n_layers > COMMUNITY_LAYERS else set(range(n_layers))
    layers, per_token = {}, {}
    half = decoded.size // 2
    reads = np.zeros(3, np.int64)
    for place, name in enumerate(track(list(trace.blocks), "looking at layers")):
        uses, follows = _uses(accesses, place, decoded, trace)
        per_token[name] = float(uses.sum(axis=1).mean()) if uses.size else 0.0
        if half:
            made, held_out = uses[:half], uses[half:]
            original = np.arange(uses.shape[1])
            reads += [held_out.sum(), *(count_reads(held_out, order) for order in (original, greedy_order(made)))]
        token, expert = (part.astype(np.int32) for part in np.nonzero(uses))
        found = hot_set(expert, token, uses.shape[1], max(1, round(per_token[name])), seed) if token.size else _unused()
        layers[name] = LayerVerdict(
            found, reuse(uses, follows), communities(uses, seed) if place in sought and token.size else None
        )  # fmt: skip
    judged = accesses.is_decode & (accesses.tokens >= (decoded[decoded.size // 2] if decoded.size else 0))
    frequency = np.bincount(accesses.items[~judged], minlength=accesses.n_items)
    n_experts = {name: block.n_neurons for name, block in trace.blocks.items()}
    slots = sorted({max(1, round(share * max(n_experts.values()))) for share in SLOT_SHARES})
    sizes = dict(unit_bytes_of(trace))
    read_us = pieces_us = begin_us = None
    if device is not None and sizes:
        size = round(sum(sizes.values()) / len(sizes))
        read_us, pieces_us = _read_us(device, size), PIECES * _read_us(device, -(-size // PIECES))
        begin_us = max(0.0, (pieces_us - read_us) / (PIECES - 1))
    return ExpertVerdict(
        n_experts, per_token, trace.n_tokens - decoded.size, int(decoded.size), sizes, layers,
        _by_tenth(new_experts(accesses)), hit_curves(accesses, judged, frequency, slots),
        None if device is None else device.name, read_us, pieces_us, begin_us,
        OrderReads(*(reads / (decoded.size - half)).tolist()) if half else None,
    )  # fmt: skip


def _read_us(device: DeviceProfile, n_bytes: int) -> float:
    n_pages = -(-n_bytes // device.page_bytes)
    return float(device.read_us_by_pages(n_pages)[n_pages])


def _decoded(trace: ActivationTrace) -> Int32Array:
    """Return the tokens that were generated."""
    if trace.phases is None:
        return np.arange(trace.n_tokens, dtype=np.int32)
    return np.flatnonzero(trace.phases == DECODE).astype(np.int32)


def _uses(
    accesses: ExpertAccesses, layer: int, decoded: Int32Array, trace: ActivationTrace
) -> tuple[BoolArray, BoolArray]:
    """Return which experts of a layer each generated token uses, and whether it follows the one before."""
    first, stop = int(accesses.first_item[layer]), int(accesses.first_item[layer + 1])
    uses = np.zeros((decoded.size, stop - first), bool)
    here = (accesses.layers == layer) & accesses.is_decode
    uses[np.searchsorted(decoded, accesses.tokens[here]), accesses.items[here] - first] = True
    follows = np.zeros(decoded.size, bool)
    follows[1:] = np.diff(decoded) == 1
    follows[np.isin(decoded, trace.segment_starts)] = False
    return uses, follows


def _by_tenth(values: np.ndarray) -> tuple[float, ...]:
    """Return the mean of each tenth of some values."""
    return tuple(float(part.mean()) for part in np.array_split(values, 10) if part.size)


def _unused() -> HotSet:
    return HotSet((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, None)
