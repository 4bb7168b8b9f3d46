"""What every request passes before its route: key, host, body limits, records.

It must not know any API's fields.
"""
