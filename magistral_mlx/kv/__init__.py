"""Keys and values of one sequence, at 16, 8 or 4 bits, and the cache of finished prefixes.

It must not know requests or text. `kv.disk` keeps KV on the SSD; it imports this room, and this
room does not import it.
"""
