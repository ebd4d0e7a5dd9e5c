"""The verdict on a profile: what reordering is worth, in figures and in sentences."""
