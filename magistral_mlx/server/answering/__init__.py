"""From a request to its answers: queue, model, running answers, errors, records, metrics.

It must not know the fields of any API.
"""
