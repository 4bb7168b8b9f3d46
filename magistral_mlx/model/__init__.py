"""The decoder over a flat token axis, and what it is built of.

It must not know sequences, requests, text or sampling: tokens and segments in, logits out.
"""
