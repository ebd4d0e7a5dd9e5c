"""Orders of a block's neurons: baselines, Ripple's greedy path, and the objective they are judged by."""
