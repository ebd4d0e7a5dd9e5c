"""Draw synthetic activations: features that come and go with the text, and neurons that listen to them.

All arithmetic is on integers and every random number is a hash of its place (seed, token, neuron), so that results
depend neither on the number of threads nor on how the tokens are cut into chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit, prange
from numba.extending import overload

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NOISE_BITS = 16
"""Each of the four uniform numbers whose sum is a neuron's noise has so many bits."""
NOISE_MEAN = 4 * (2**NOISE_BITS - 1) // 2
NOISE_DEVIATION = 37837
"""Standard deviation of that sum: 65536 / sqrt(3)."""
_WORD = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def random_word(key: int, counter: int) -> int:
    """Return the 64 random bits number `counter` of the stream `key`.

    References
    ----------
    .. [1] G. L. Steele Jr., D. Lea, C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014,
       doi:10.1145/2660193.2660195 (SplitMix64, whose state is linear in the counter).
    """
    word = (int(key) + (int(counter) + 1) * _GOLDEN) & _WORD
    word = ((word ^ (word >> 30)) * _FIRST) & _WORD
    word = ((word ^ (word >> 27)) * _SECOND) & _WORD
    return word ^ (word >> 31)


@overload(random_word, inline="never")
def _random_word(key: Any, counter: Any) -> Any:
    golden, first, second = np.uint64(_GOLDEN), np.uint64(_FIRST), np.uint64(_SECOND)

    def compiled(key: Any, counter: Any) -> Any:
        word = np.uint64(key) + (np.uint64(counter) + np.uint64(1)) * golden
        word = (word ^ (word >> np.uint64(30))) * first
        word = (word ^ (word >> np.uint64(27))) * second
        return word ^ (word >> np.uint64(31))

    return compiled


@njit(cache=True, parallel=True, nogil=True)
def draw_features(
    key: Any, first_token: int, segment_length: int, on_threshold: Array, persist_threshold: int, on: Array
) -> None:
    """Draw which features each token of whole segments switches on; caller allocates.

    Parameters
    ----------
    key : uint64
        Stream of the text.
    first_token : int
        A multiple of `segment_length`.
    segment_length : int
        Tokens of a segment; the first of each knows nothing of the one before.
    on_threshold : ndarray of shape (n_features,), int64
        A feature that is drawn anew is on if 32 random bits are below it.
    persist_threshold : int
        A feature stays as it was at the token before if 32 random bits are below it.
    on : ndarray of shape (n_tokens, n_features), uint8
        Written: 1 where the feature is on.
    """
    n_tokens, n_features = on.shape
    low_bits = (1 << 32) - 1
    for segment in prange((n_tokens + segment_length - 1) // segment_length):
        start = segment * segment_length
        for token in range(start, min(start + segment_length, n_tokens)):
            for feature in range(n_features):
                word = random_word(key, np.int64(first_token + token) * n_features + feature)
                if token > start and np.int64(word >> 32) < persist_threshold:
                    on[token, feature] = on[token - 1, feature]
                else:
                    on[token, feature] = np.int64(word & low_bits) < on_threshold[feature]
