"""Keys and values of one sequence, at 16, 8 or 4 bits, and the cache of finished prefixes.

It must not know requests, text, or who asks. The same on the SSD: `kv.disk`, which imports this
room and is not imported by it.
"""
