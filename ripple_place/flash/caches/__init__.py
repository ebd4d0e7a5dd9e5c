"""DRAM cache policies, one file each: state as plain arrays, and a kernel that replays accesses one by one."""
