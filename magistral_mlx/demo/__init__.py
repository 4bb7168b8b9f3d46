"""The very small model that comes with the package: its weights, its training, its questions."""
