"""Measures speed, beside what memory bandwidth allows and beside other engines.

The bench command, and what the scripts of benchmarks/ share. It knows nothing of the server's code,
the page or the terminal.
"""
