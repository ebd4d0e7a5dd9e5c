"""The proof that an output is the same model, permuted."""
