"""The page: a chat in the browser, reasoning beside the answer. Imported as magistral_mlx.app."""
