"""GPT-2's alphabet: how tokenizer.json and GGUF files write bytes as readable characters."""


def byte_alphabet() -> dict[int, str]:
    """The character of every byte: itself where it is printable, U+0100 and on for the others."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    alphabet = {byte: chr(byte) for byte in itself}
    return alphabet | {byte: chr(0x100 + place) for place, byte in enumerate(others)}
