"""Reads units from a layout for real: storage, a queue of reads, and a DRAM cache with the simulator's policies."""
