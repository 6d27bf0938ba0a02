"""An index of places in a file: an SQLite database that any platform opens, and the search in it.

It imports numpy and Python's own sqlite3; libraries that train codecs or scan faster are imported when they are used.
"""

from tfplaces.index.codecs import CODECS, Codec
from tfplaces.index.place import ModelIdentity, Place, TestVector
from tfplaces.index.reader import PlaceIndex, open_index
from tfplaces.index.writer import IndexWriter, put_settings, writing_index

__all__ = [
    "CODECS",
    "Codec",
    "IndexWriter",
    "ModelIdentity",
    "Place",
    "PlaceIndex",
    "TestVector",
    "open_index",
    "put_settings",
    "writing_index",
]
