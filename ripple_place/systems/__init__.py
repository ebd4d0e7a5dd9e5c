"""Published systems as configurations, and PowerInfer-2's plan of what is hot."""
