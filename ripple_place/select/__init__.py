"""Which units a token uses: one file a rule, and what serves the chosen ones from cache and flash."""
