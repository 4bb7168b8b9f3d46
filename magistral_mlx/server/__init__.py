"""The HTTP server: what OpenAI's and Anthropic's clients expect, over one open model."""
