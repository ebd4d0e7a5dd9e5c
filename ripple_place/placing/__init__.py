"""From a profile to a placement, in stages."""
