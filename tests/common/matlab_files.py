"""Writes `.mat` files as MATLAB does: of version 5 by scipy, of version 7.3 by h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def dbstruct(database: list[str], queries: list[str], **more: Any) -> dict[str, Any]:
    """The fields of a `dbStruct` in the order of Pittsburgh's; positions are 40 m apart unless given."""
    fields = {
        "whichSet": "test",
        "dbImageFns": database,
        "utmDb": np.arange(len(database)) * np.array([[40.0], [0.0]]),
        "qImageFns": queries,
        "utmQ": np.arange(len(queries)) * np.array([[40.0], [0.0]]),
        "numImages": len(database),
        "numQueries": len(queries),
        "posDistThr": 25,
        "posDistSqThr": 625,
        "nonTrivPosDistSqThr": 100,
    }
    return {**fields, **more}


def cell(items: list[Any]) -> np.ndarray:
    """A column of a cell, for scipy."""
    made = np.empty((len(items), 1), object)
    made[:, 0] = items
    return made


def _for_scipy(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: _for_scipy(member) for name, member in item.items()}
    return cell([_for_scipy(member) for member in item]) if isinstance(item, list) else item


def write_mat(path: Path, fields: dict[str, Any], variable: str = "dbStruct", compress: bool = True) -> Path:
    """Writes a struct of version 5; lists become cells, and dictionaries structs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # scipy would add .mat to the name
        scipy.io.savemat(file, {variable: _for_scipy(fields)}, do_compression=compress)
    return path


def write_mat73(path: Path, fields: dict[str, Any], variable: str = "dbStruct") -> Path:
    """Writes a struct of version 7.3, as MATLAB lays it out: dimensions reversed, cells as references to `#refs#`."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")

        def put(parent: Any, name: str, item: Any) -> Any:
            if isinstance(item, dict):
                made, kind = parent.create_group(name), "struct"
                for member, content in item.items():
                    put(made, member, content)
            elif isinstance(item, list) and not item:
                made, kind = parent.create_dataset(name, data=np.array([0, 0], np.uint64)), "cell"
                made.attrs["MATLAB_empty"] = np.uint8(1)
            elif isinstance(item, list):
                references = np.empty((1, len(item)), h5py.ref_dtype)
                for k, text in enumerate(item):
                    references[0, k] = put(kept, f"r{len(kept)}", text).ref
                made, kind = parent.create_dataset(name, data=references, dtype=h5py.ref_dtype), "cell"
            elif isinstance(item, str):
                made = parent.create_dataset(name, data=np.frombuffer(item.encode("utf-16-le"), "<u2")[:, None])
                kind = "char"
            elif isinstance(item, np.ndarray) and item.dtype == np.float32:
                made, kind = parent.create_dataset(name, data=np.atleast_2d(item).T, compression="gzip"), "single"
            else:
                made = parent.create_dataset(name, data=np.atleast_2d(np.asarray(item, np.float64)).T)
                kind = "double"
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made

        put(file, variable, fields)
    data = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + data[128:])
    return path
