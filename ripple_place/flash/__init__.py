"""Flash: device profiles, layouts, the read planner, DRAM caches, the simulator, and its pictures."""
