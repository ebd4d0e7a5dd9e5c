"""What lies where in a checkpoint: its shards, its family, and the tensors that hold the neurons of each FFN block."""
