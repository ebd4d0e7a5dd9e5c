"""Predictors of what fires, from the input of an FFN: how they are fitted, judged, kept and applied."""
