"""Experts of mixtures as units: routes, caches of a size in bytes, what reading them costs, and the verdict."""
