"""Routes of mixtures of experts, as engines write them: which experts each token used in each layer."""
