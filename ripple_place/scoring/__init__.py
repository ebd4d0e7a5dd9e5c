"""From layouts to scores: simulating a trace on each layout, and the sweeps and real reads that go with it."""
