"""Activation traces: which neurons of each FFN block fired for each token."""
