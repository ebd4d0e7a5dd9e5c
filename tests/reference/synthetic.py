"""Synthetic activations, the obvious way: one token and one neuron at a time, everything sorted."""

from __future__ import annotations

MASK = (1 << 64) - 1


def random_word(key: int, counter: int) -> int:
    """SplitMix64: the state after so many steps from `key`, mixed."""
    state = key
    for _ in range(counter + 1):
        state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def features(key, n_tokens, segment_length, on_threshold, persist_threshold):
    """Return, token by token, whether each feature is on."""
    rows = []
    for token in range(n_tokens):
        row = []
        for feature, threshold in enumerate(on_threshold):
            word = random_word(key, token * len(on_threshold) + feature)
            stays = token % segment_length > 0 and (word >> 32) < persist_threshold
            row.append(rows[-1][feature] if stays else (word % 2**32) < threshold)
        rows.append(row)
    return rows


def firing(key, on, first_feature, second_feature, first_weight, second_weight, n_top):
    """Return the set of neurons that fire for each token."""
    rows = []
    n_neurons = len(first_feature)
    for token, features_on in enumerate(on):
        scores = []
        for neuron in range(n_neurons):
            word = random_word(key, token * n_neurons + neuron)
            score = sum((word >> shift) % 65536 for shift in (0, 16, 32, 48))
            score += first_weight if features_on[first_feature[neuron]] else 0
            score += second_weight if features_on[second_feature[neuron]] else 0
            scores.append(score)
        ranking = sorted(range(n_neurons), key=lambda neuron: (-scores[neuron], neuron))
        rows.append(set(ranking[:n_top]))
    return rows
