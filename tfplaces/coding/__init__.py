"""Entropy coder, and readers of `.places` and `.tflpack` files. Needs numpy and nothing else. FORMAT.md has the bytes.

write, read: a file of a JSON header and named tensors. Container: what `read` returns.
encode, decode: the entropy coder, uint8 symbols to bytes and back.
pack, unpack, unpack_bytes: a `.tflite` to a `.tflpack` and back.
verify_tflite: refuses a `.tflite` that LiteRT could not open or run safely.
PlacesFile: an open `.places` file; SharedKernel: a kernel in it; places_statistics: what each layer takes in it.
"""

from tfplaces.coding.container import MAX_BYTES, Container, read, write
from tfplaces.coding.places import PlacesFile
from tfplaces.coding.rans import decode, encode
from tfplaces.coding.shared_kernel import SharedKernel
from tfplaces.coding.statistics import FileStatistics, places_statistics
from tfplaces.coding.tflite_verifier import verify_tflite
from tfplaces.coding.tflpack_decoder import unpack, unpack_bytes
from tfplaces.coding.tflpack_encoder import pack

__all__ = [
    "MAX_BYTES", "Container", "FileStatistics", "PlacesFile", "SharedKernel", "decode", "encode", "pack",
    "places_statistics", "read", "unpack", "unpack_bytes", "verify_tflite", "write",
]  # fmt: skip
