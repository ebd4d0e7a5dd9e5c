"""Draw synthetic activations: features that come and go with the text, and neurons that listen to them.

All arithmetic is on integers and every random number is a hash of its place (seed, token, neuron), so that results
depend neither on the number of threads nor on how the tokens are cut into chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange
from numba.extending import overload

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NOISE_BITS = 16
"""Each of the four uniform numbers whose sum is a neuron's noise has so many bits."""
NOISE_DEVIATION = 37837
"""Standard deviation of that sum: 65536 / sqrt(3)."""
N_BINS = 1024
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


@overload(random_word, strict=False)
def _random_word(key: Any, counter: Any) -> Any:
    golden, first, second = np.uint64(_GOLDEN), np.uint64(_FIRST), np.uint64(_SECOND)

    def compiled(key: Any, counter: Any) -> Any:
        word = np.uint64(key) + (np.uint64(counter) + np.uint64(1)) * golden
        word = (word ^ (word >> np.uint64(30))) * first
        word = (word ^ (word >> np.uint64(27))) * second
        return word ^ (word >> np.uint64(31))

    return compiled


@compiled(parallel=True)
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


@compiled
def lowest_of_top(scores: Array, n_top: int) -> int:
    """Return the n_top-th highest score: 1 <= n_top <= scores.size.

    A histogram finds the bin that holds it; what lies in that bin is sorted.
    """
    lowest = np.int64(scores.min())
    spread = np.int64(scores.max()) - lowest
    shift = 0
    while spread >> shift >= N_BINS:
        shift += 1
    bins = np.zeros(N_BINS, np.int64)
    for score in scores:
        bins[(score - lowest) >> shift] += 1
    bin_ = N_BINS - 1
    while bins[bin_] < n_top:
        n_top -= bins[bin_]
        bin_ -= 1
    within = np.empty(bins[bin_], np.int64)
    n_within = 0
    for score in scores:
        if (score - lowest) >> shift == bin_:
            within[n_within] = score
            n_within += 1
    within.sort()
    return within[n_within - n_top]  # type: ignore[no-any-return]


@compiled(parallel=True)
def fire_top(
    key: Any, first_token: int, on: Array, first_feature: Array, second_feature: Array, first_weight: int,
    second_weight: int, n_top: int, active: Array,
) -> None:  # fmt: skip
    """Let the neurons with the highest scores fire for each token; caller allocates.

    A neuron's score is the weights of those of its two features that are on, and noise: the sum of four uniform
    numbers.

    Parameters
    ----------
    key : uint64
        Stream of the block and text.
    first_token : int
    on : ndarray of shape (n_tokens, n_features), uint8
        As from `draw_features`.
    first_feature, second_feature : ndarray of shape (n_neurons,), int32
    first_weight, second_weight : int
        In the unit of which the noise has a standard deviation of `NOISE_DEVIATION`.
    n_top : int
        Neurons that fire for each token, from 1 to n_neurons; of equal scores the lowest neuron's counts more.
    active : ndarray of shape (n_tokens, ceil(n_neurons / 8)), uint8
        Written: packed bits in little order.
    """
    n_neurons = first_feature.size
    low_bits = (1 << NOISE_BITS) - 1
    for token in prange(on.shape[0]):
        scores: Array = np.empty(n_neurons, np.int32)
        first_heard = np.empty(on.shape[1], np.int32)
        second_heard = np.empty(on.shape[1], np.int32)
        for feature in range(on.shape[1]):
            first_heard[feature] = first_weight if on[token, feature] else 0
            second_heard[feature] = second_weight if on[token, feature] else 0
        # Apart from each other, so that the compiler makes vector code of both.
        first_word: int = np.int64(first_token + token) * n_neurons  # type: ignore[assignment]
        for neuron in range(n_neurons):
            word = random_word(key, first_word + neuron)
            noise = np.int64(0)
            for part in range(4):
                noise += np.int64((word >> (NOISE_BITS * part)) & low_bits)
            scores[neuron] = noise
        for neuron in range(n_neurons):
            scores[neuron] += first_heard[first_feature[neuron]] + second_heard[second_feature[neuron]]
        bound = lowest_of_top(scores, n_top)
        n_equal = n_top
        for other in scores:
            n_equal -= other > bound
        for byte in range(active.shape[1]):
            bits = 0
            for neuron in range(8 * byte, min(8 * byte + 8, n_neurons)):
                if scores[neuron] > bound:
                    bits |= 1 << (neuron - 8 * byte)
                elif scores[neuron] == bound and n_equal > 0:
                    bits |= 1 << (neuron - 8 * byte)
                    n_equal -= 1
            active[token, byte] = bits
