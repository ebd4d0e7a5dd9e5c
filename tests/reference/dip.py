"""Dynamic Input Pruning and its cache-aware masking (arXiv 2412.01380), written to be obvious.

By the words of the paper and of its authors' released code. Scores are of the entries of one token, none of them zero.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

from tests.reference import caches
from tests.reference.selection import largest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def split(keep: float) -> tuple[float, float]:
    """Return which shares of the inputs and of the down columns make up a density of a gated FFN."""
    logit = 0.9849930711017189 * log(keep / (1 - keep)) + 0.29976477589716316
    keep_in = 1 / (1 + exp(-logit))
    return keep_in, 3 * (keep - 2 / 3 * keep_in)


def keep_largest(values: Sequence[float], keep: float) -> list[bool]:
    """Keep the share of a token's entries with the largest sizes, but no zeros."""
    kept = largest([abs(value) for value in values], int(keep * len(values)))
    return [is_kept and value != 0 for is_kept, value in zip(kept, values, strict=True)]


def warmed_up(gamma: float, token: int) -> float:
    """Return the gamma of a token, counted from the emptied cache."""
    return 1 - (1 - gamma) * (1 - gamma ** (token / 4))


def reweighted(
    scores: Sequence[float], is_cached: Sequence[bool], k: int, gamma: float, n_exempt: int = 0, *, blends: bool = False
) -> list[bool]:
    """Keep the `k` largest after what is not cached has lost in score; the `n_exempt` largest scores stay as they are.

    A gamma of 0 ranks what is cached above all else, and the rest by score.
    """
    exempt = largest(scores, n_exempt)
    weighted: list[tuple[float, float]] = []
    for score, cached, is_exempt in zip(scores, is_cached, exempt, strict=True):
        if is_exempt:
            weighted.append((score, 0.0))
        elif blends:
            weighted.append((gamma * score + (1 - gamma) * cached, 0.0))
        elif cached:
            weighted.append((score, 0.0))
        else:
            weighted.append((gamma * score, score if gamma == 0 else 0.0))
    ranked = sorted(range(len(scores)), key=lambda i: weighted[i], reverse=True)
    return [i in ranked[:k] for i in range(len(scores))]


def approximated(
    scores: Sequence[float], is_cached: Sequence[bool], uses: Sequence[int], most_uses: int, k: int, m: int, n: int,
    gamma: float,
) -> list[bool]:  # fmt: skip
    """Fill `k` places: the n largest; the cached ones of the k largest, then of the m largest; the rest of the k.

    `uses` counts the tokens that used each entry before, `most_uses` is the largest count of the block.
    """
    mixed = [
        gamma * (count / most_uses if most_uses else 0.0) + (1 - gamma) * score
        for score, count in zip(scores, uses, strict=True)
    ]
    top_n, top_k, top_m = largest(mixed, n), largest(mixed, k), largest(mixed, m)
    places: list[int] = []
    for belongs in (
        lambda i: top_n[i], lambda i: top_k[i] and is_cached[i], lambda i: top_m[i] and is_cached[i],
        lambda i: top_k[i],
    ):  # fmt: skip
        group = [i for i in range(len(scores)) if belongs(i) and i not in places]
        places += sorted(group, key=lambda i: (-mixed[i], i))
    return [i in places[:k] for i in range(len(scores))]


def masked(
    rows: Sequence[Sequence[float]], capacity: int, policy: str, choose: Callable[..., list[bool]],
    resets: Sequence[int] = (0,),
) -> list[list[tuple[int, bool]]]:  # fmt: skip
    """Mask rows one after the other with what a mask-first cache holds; return what each uses, and whether it hits.

    Parameters
    ----------
    rows : sequence of sequence of float
        What each unit of a block puts out, token by token; zeros are not asked about.
    capacity : int
    policy : str
        "lru" or "lfu".
    choose : callable
        Takes the sizes of a token's entries, which of them are in DRAM, how many tokens used each since the last reset,
        the largest of these counts in the block, and the number of tokens since the last reset.
    resets : sequence of int
        Rows before which the cache is emptied.
    """
    result, masks = [], []  # type: ignore[var-annotated]
    for number, row in enumerate(rows):
        if number in resets:
            masks = []
        units = [unit for unit, value in enumerate(row) if value != 0]
        held = caches.mask_first(masks, capacity, policy)[1]
        uses = [sum(unit in mask for mask in masks) for unit in range(len(row))]
        is_used = choose(
            [abs(row[unit]) for unit in units], [unit in held for unit in units], [uses[unit] for unit in units],
            max(uses), len(masks),
        )  # fmt: skip
        masks.append([unit for unit, used in zip(units, is_used, strict=True) if used])
        result.append([(unit, unit in held) for unit in masks[-1]])
    return result
