"""Forms of bundles: where the gate row of each neuron lies, and where its up row and down column do."""

from __future__ import annotations

from dataclasses import dataclass

from ripple_place.errors import PlacementError

WHOLE, GATE_FIRST, GATES_APART, INT4 = FORMS = ("whole", "gate-first", "gates-apart", "int4")
REGION_BYTES = 4096
"""Gates and rest of a block that lie apart both start on a multiple of this, counted from the block."""
GATED_PARTS = 3
"""Equally long parts of a bundle: gate row, up row, down column."""
INT4_WEIGHTS, INT4_BYTES = 8, 5
"""Eight weights of four bits and their share of the scales take five bytes: 2 KB and 0.5 KB of scales a matrix of 4096
weights, 7.5 KB a neuron (PowerInfer-2, arXiv 2406.06282, section on I/O)."""
_FLOAT_BYTES = 2


@dataclass(frozen=True)
class BundleForm:
    """Where the two parts of a block's bundles lie: the gate, and the rest.

    The gate of slot s begins ``s * gate_stride_bytes`` behind the block, its rest ``rest_offset_bytes + s *
    rest_stride_bytes``.

    Parameters
    ----------
    name : str
        One of `FORMS`. ``whole``: a bundle is read in one piece. ``gate-first``: in two, the gate being its start.
        ``gates-apart``: the gates of a block lie in one region, the rest in another. ``int4``: as ``gate-first``, of
        weights of four bits and their scales, each bundle on pages of its own.
    gate_bytes, rest_bytes : int
        Of a neuron, at least 1.
    gate_stride_bytes, rest_stride_bytes : int
        From one slot to the next.
    rest_offset_bytes : int
        From the gate of slot 0 to its rest.

    Raises
    ------
    PlacementError
        If parts are empty or overlap.
    """

    name: str
    gate_bytes: int
    rest_bytes: int
    gate_stride_bytes: int
    rest_stride_bytes: int
    rest_offset_bytes: int

    def __post_init__(self) -> None:
        fits = 0 < self.gate_bytes <= self.gate_stride_bytes and 0 < self.rest_bytes <= self.rest_stride_bytes
        if not (self.name in FORMS and fits and self.rest_offset_bytes >= self.gate_bytes):
            raise PlacementError(
                "bundle form", found=str(self), expected="a gate and a rest of at least one byte that do not overlap",
                remedy="write the bundled file again",
            )  # fmt: skip

    @property
    def is_apart(self) -> bool:
        """Whether a bundle lies in two places."""
        return self.name == GATES_APART

    @property
    def bundle_bytes(self) -> int:
        """Bytes of a neuron, both parts together."""
        return self.gate_bytes + self.rest_bytes

    @classmethod
    def in_bundle(cls, name: str, gate_bytes: int, bundle_bytes: int, stride_bytes: int) -> BundleForm:
        """Return the form of bundles that begin with the gate.

        >>> BundleForm.in_bundle("gate-first", 8192, 24576, 24576).rest_bytes
        16384
        """
        return cls(name, gate_bytes, bundle_bytes - gate_bytes, stride_bytes, stride_bytes, gate_bytes)

    @classmethod
    def apart(cls, gate_bytes: int, rest_bytes: int, rest_stride_bytes: int, n_neurons: int) -> BundleForm:
        """Return the form of gates that lie apart, without padding, and of the rest behind them.

        >>> BundleForm.apart(1000, 2000, 2000, 10).rest_offset_bytes
        12288
        """
        gates_bytes = n_neurons * gate_bytes
        padded_bytes = gates_bytes + -gates_bytes % REGION_BYTES
        return cls(GATES_APART, gate_bytes, rest_bytes, gate_bytes, rest_stride_bytes, padded_bytes)


def int4_matrix_bytes(n_weights: int) -> int:
    """Return the bytes of a row of four-bit weights and its scales.

    >>> int4_matrix_bytes(4096)
    2560
    """
    return -(-n_weights * INT4_BYTES // INT4_WEIGHTS)


def int4_weights(bundle_bytes: int) -> int:
    """Return how many weights a row has in a bundle of three rows of 16-bit weights.

    >>> int4_weights(24576)
    4096
    """
    return bundle_bytes // (GATED_PARTS * _FLOAT_BYTES)
