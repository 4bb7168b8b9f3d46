"""The folder that is written: shards, journal, manifest, model card, checksums.

It must not know where the weights come from.
"""
