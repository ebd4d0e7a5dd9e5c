"""DIP's byte model: what a token costs if only bytes and bandwidths count."""
