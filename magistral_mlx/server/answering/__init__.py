"""From a request to its answers: the queue, the loaded model, running answers, metrics.

It must not know the fields of any API.
"""
