"""Real storage: direct reads at a queue depth, what may falsify them, calibration, and fio's files."""
