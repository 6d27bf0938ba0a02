"""Entropy coder and container of `.places` and `.tflpack` files. Needs numpy, not TensorFlow. FORMAT.md has the bytes.

write, read: a file of a JSON header and named tensors. Container: what `read` returns.
encode, decode: the entropy coder, uint8 symbols to bytes and back.
pack, unpack, unpack_bytes: a `.tflite` to a `.tflpack` and back.
"""

from tfplaces.coding.container import MAX_BYTES, Container, read, write
from tfplaces.coding.rans import decode, encode
from tfplaces.coding.tflpack import pack, unpack, unpack_bytes

__all__ = ["MAX_BYTES", "Container", "decode", "encode", "pack", "read", "unpack", "unpack_bytes", "write"]
