"""Settings for the tests with real Hugging Face models."""

import os

import pytest
import torch

# No test may reach for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _quiet_and_repeatable():
    """Seed torch; one thread: the models are tiny."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
