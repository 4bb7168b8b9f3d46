"""From logits to tokens: the sampler, rules that change logits, log-probabilities.

It must not know sequences, requests or the scheduler.
"""
