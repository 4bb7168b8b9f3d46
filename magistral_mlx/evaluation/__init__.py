"""Quality: how often a model answers rightly, measured so that a user can measure it again."""
