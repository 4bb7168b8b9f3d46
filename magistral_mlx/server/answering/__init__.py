"""From a request to its events: limits, the loaded model, running answers, errors, metrics.

It must not know the fields of any API.
"""
