"""What routes of a mixture say before anything is built: hot sets, reuse, hit ratios against slots, communities."""
