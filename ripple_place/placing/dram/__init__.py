"""Placing for a DRAM budget: how it is split over the blocks, and what stays in it."""
