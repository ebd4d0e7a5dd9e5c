"""The names that an output directory gives to what is ours in it."""

from __future__ import annotations

OWN_DIRECTORY = "ripple_place"
"""Subdirectory of OUT for everything that the source did not have."""
BUNDLED_FILE = f"{OWN_DIRECTORY}/bundled.safetensors"
PLACEMENT_FILE = f"{OWN_DIRECTORY}/placement.safetensors"
MANIFEST_FILE = f"{OWN_DIRECTORY}/manifest.json"
MANIFEST_FORMAT = "ripple-place.manifest/1"
JOURNAL_FILE = f"{OWN_DIRECTORY}/journal.jsonl"
JOURNAL_FORMAT = "ripple-place.journal/1"
SELECTION_FILE = f"{OWN_DIRECTORY}/selection.json"
COMPENSATION_FILE = f"{OWN_DIRECTORY}/compensation.safetensors"
PREDICTORS_FILE = f"{OWN_DIRECTORY}/predictors.safetensors"
PLAN_FILE = f"{OWN_DIRECTORY}/plan.json"
ADDITIONS = {
    SELECTION_FILE: "selection", COMPENSATION_FILE: "compensation", PREDICTORS_FILE: "predictors", PLAN_FILE: "plan",
}  # fmt: skip
"""Files beside the model, and what they are: readers that choose what they read may use them. The model does not."""
