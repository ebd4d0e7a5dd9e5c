"""Checkpoints: where a model's FFN neurons lie in its files, and rewriting those files in another neuron order."""
