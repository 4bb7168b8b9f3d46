"""Colours and markers of plots that read on a light and on a dark page."""

INK = "#7d8590"
"""4 to 1 and more against white and against near-black: the background is transparent."""
COLOURS = ("#3b82f6", "#e07b00", "#1f9d55", "#b05be0", "#d64550", "#0e9aa7", "#9a8500")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
