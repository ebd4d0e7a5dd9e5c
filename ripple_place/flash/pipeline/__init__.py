"""PowerInfer-2's pipeline: the stages of neuron clusters on compute threads and one I/O thread."""
