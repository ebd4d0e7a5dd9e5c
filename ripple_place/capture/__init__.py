"""Activation traces recorded from a Hugging Face model that runs on text; needs the extra ``capture``."""
