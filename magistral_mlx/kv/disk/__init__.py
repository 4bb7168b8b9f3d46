"""KV kept on the SSD: files with checksums, their folder, an index by token prefix, the store.

It must not know requests or text. A damaged file is never used.
"""
