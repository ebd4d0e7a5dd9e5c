"""The proof of files that were permuted along with a model: adapters, predictors, importance matrices."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.carriers.plan import redescribe
from ripple_place.checkpoint.proof.compare import AGAIN
from ripple_place.errors import RipplePlaceError, VerificationError
from ripple_place.inputfile import read_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.model.ffn import FfnModel

PROVED = "files permuted along equal their sources after the inverse permutation"
CLAIMED = "files permuted along agree with the manifest (no proof: give their originals with --adapter and --carrier)"


def check_carriers(
    out: Path, claimed: Mapping[str, Any], model: FfnModel, orders: Mapping[str, Int32Array],
    originals: Sequence[CarrierFile] | None,
) -> dict[str, int]:  # fmt: skip
    """Return the number of files that were permuted along, by how much is known of them.

    Each is put back into the original order; that must hash to what the manifest says of its original, must equal the
    original where that is given, and, permuted again, must give the file.

    Parameters
    ----------
    out : Path
    claimed : mapping of str to mapping
        `kind` and `source_sha256` of each file, as the manifest has them.
    model : FfnModel
        The source.
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block.
    originals : sequence of CarrierFile or None
        What the files were made from; None where nobody has them.

    Raises
    ------
    VerificationError
        If a file is another, or one is missing or too many.
    OSError
        If one cannot be read.
    """
    given = {file.name: file for file in originals or ()}
    if originals is not None and given.keys() != claimed.keys():
        name = min(given.keys() ^ claimed.keys())
        raise VerificationError(
            out / name, found="no such file" if name in given else "a file without an original",
            expected="a file for each original, and an original for each file",
            remedy="give all originals, with --adapter and --carrier, as they were given to `ripple-place reorder`",
        )  # fmt: skip
    for name, entry in claimed.items():
        try:
            file = redescribe(model, out, name, entry["kind"])
        except VerificationError:
            raise
        except RipplePlaceError as cause:
            raise VerificationError.relocated(cause, cause.where) from cause
        restored = file.permuted(orders, inverse=True)
        is_equal = file.kind == entry["kind"] and hashlib.sha256(restored).hexdigest() == entry["source_sha256"]
        if name in given:
            is_equal &= restored == read_input(given[name].source, None)
        # Checksums within a file are put right on the way back, and so would hide there.
        if not is_equal or file.moved(restored, orders) != read_input(file.source, None):
            raise VerificationError(
                out / name, found="other contents", expected="the source's, in the order of the placement", remedy=AGAIN
            )
    return {CLAIMED if originals is None else PROVED: len(claimed)}
