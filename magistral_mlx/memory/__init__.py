"""The memory plan: what fits a machine, worked out before anything is loaded.

It computes with shapes and bytes. It must not load weights or know requests.
"""
