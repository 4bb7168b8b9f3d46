"""Parts of requests that several APIs share, as pydantic models.

It must not know routes or the running model.
"""
