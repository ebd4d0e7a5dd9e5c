"""Runs Hugging Face models: records activation traces on text, compares logits. Needs the extra ``capture``."""
