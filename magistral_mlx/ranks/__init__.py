"""One model over several processes, as mlx.launch starts them: each a rank with its part."""
