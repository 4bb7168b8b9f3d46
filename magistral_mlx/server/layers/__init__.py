"""What every request passes before its route: records, key, limits of the body.

It must not know the fields of any API, nor the model.
"""
