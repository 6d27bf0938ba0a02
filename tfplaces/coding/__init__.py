"""Entropy coder and container of `.places` and `.tflpack` files. Needs numpy, not TensorFlow. FORMAT.md has the bytes.

write, read: a file of a JSON header and named tensors. Container: what `read` returns.
encode, decode: the entropy coder, uint8 symbols to bytes and back.
"""

from tfplaces.coding.container import Container, read, write
from tfplaces.coding.rans import decode, encode

__all__ = ["Container", "decode", "encode", "read", "write"]
