"""What fits this machine: the plan made before loading, and the budget held while running.

It computes with shapes and bytes. It must not load weights or know requests.
"""
