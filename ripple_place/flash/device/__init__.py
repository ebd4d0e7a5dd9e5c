"""Device profiles: what a flash read costs, by size, conditions and device, and the files they come from."""
