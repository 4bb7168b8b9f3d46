"""The output folder: weight files, journal, manifest, config and tokenizer files.

It must not know how sources are read or weights rounded.
"""
