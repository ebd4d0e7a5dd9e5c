"""Generates text with a model whose FFN weights stay on storage: what each token needs is decided, read and computed."""
