"""OpenAI's APIs: chat completions, completions, responses, models.

It must not know Anthropic's API.
"""
