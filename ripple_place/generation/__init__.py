"""Generates text with a model whose FFN weights stay on storage: what a token needs is decided, read, computed."""
