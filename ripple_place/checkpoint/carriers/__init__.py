"""Files beside a checkpoint whose contents follow the neurons: adapters, predictors, importance matrices, counts."""
