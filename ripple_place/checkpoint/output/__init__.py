"""Writing a checkpoint in another neuron order: the plan, the files, and the directory that appears whole."""
