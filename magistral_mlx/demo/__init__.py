"""The demo model that comes with the package, and models with random weights.

It trains and expands the demo model, which the runtime treats as any other checkpoint. It must not
know the engine, the server or the page.
"""
