"""Weights to few bits: recipes, fits, calibration, importance.

It must not know how the result is written.
"""
