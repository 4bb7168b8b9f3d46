"""What every request passes before its route: the key, and the limits of its body.

It must not know the fields of any API, nor the model.
"""
