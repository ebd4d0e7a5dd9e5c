"""Co-activation: how often neurons fire, and fire together; profiles, which hold both; export."""
