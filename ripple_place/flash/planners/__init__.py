"""Read planners: which reads fetch the neurons of a token that DRAM lacks. One file a planner."""
