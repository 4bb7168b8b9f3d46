"""OpenAI's APIs: chat completions, completions, responses, models, tokens.

It must not know Anthropic's API.
"""
