"""Our engine and mlx-lm's on the same folder in the same run; one file a measurement."""
