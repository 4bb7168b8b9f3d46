"""One model over several processes, which mlx.launch starts: each a rank with its part.

It must not know requests, text or who asks: rank 0's engine sees a `Team`, and the other ranks run
its commands.
"""
