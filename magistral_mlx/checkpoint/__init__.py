"""A model folder on disk: config, quantization, weight names and shapes, safetensors headers.

It reads and checks files. It must not know MLX modules, tokenizers, requests or the converter.
"""
