"""Rounding weights to few bits: recipes, fits, calibration, importance, errors.

It must not know how the result is written.
"""
