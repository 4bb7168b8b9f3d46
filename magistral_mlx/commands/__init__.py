"""The commands: their options, and what becomes of errors. What they show is in terminal/."""
