"""What a `.places` file spends on each layer: bytes, bits a parameter, zeros, and the entropy bound of its coding."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, NamedTuple

import numpy as np

from tfplaces.coding.container import MAX_BYTES
from tfplaces.coding.places import PlacesFile

# Weights worked on at a time.
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Sizes of a layer or of a whole file.

    Attributes:
        name: the layer; "total" for the file.
        parameters: number of weights, biases included.
        pruned: percentage of the parameters that are kernel weights of zero.
        bits: log2 of the number of levels that are in use, of the kernel that uses most; 32 where one is not shared,
            0 where there is no kernel.
        bits_per_parameter: 8 · file_bytes / parameters.
        file_bytes: of the layer's tensors in the file; in total, of the whole file.
        entropy_bytes: the zero-order entropy of the kernels' indices, and all else as it is stored; in total without
            the container's own bytes.
        share: file_bytes as a percentage of the whole file's.
    """

    name: str
    parameters: int
    pruned: float
    bits: float
    bits_per_parameter: float
    file_bytes: int
    entropy_bytes: int
    share: float


@dataclasses.dataclass(frozen=True)
class FileStatistics:
    """Sizes of a `.places` file.

    Attributes:
        layers: sizes of each layer, in the file's order.
        total: sizes of the whole file, its header included.
        place_net: arguments of the PlaceNet.
        provenance: how the file came about.
    """

    layers: list[Statistics]
    total: Statistics
    place_net: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def container_bytes(self) -> int:
        """Bytes of the header and the checksums, which belong to no layer."""
        return self.total.file_bytes - sum(layer.file_bytes for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Bytes of the float32 parameters / bytes of the file."""
        return 4 * self.total.parameters / self.total.file_bytes

    def to_json(self) -> dict[str, Any]:
        """The total's attributes, `float32_bytes`, `ratio`, `container_bytes`, `place_net`, `provenance`, `layers`."""
        total = dataclasses.asdict(self.total)
        del total["name"], total["share"]
        return {
            **total,
            "float32_bytes": 4 * self.total.parameters,
            "ratio": self.ratio,
            "container_bytes": self.container_bytes,
            "place_net": self.place_net,
            "provenance": self.provenance,
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }


def places_statistics(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> FileStatistics:
    """Statistics of a `.places` file, read one kernel at a time and without building the network.

    Args:
        path: the file.
        max_bytes: what its tensors may take together when decoded.

    Raises:
        ValueError: the file is damaged, too large or not a `.places` file.
    """
    with PlacesFile(path, max_bytes) as file:
        layers: dict[str, list[_Counts]] = {}
        for name in file.shapes:
            layers.setdefault(name.partition("/")[0], []).append(_count(file, name))
        merged = {name: _merged(counts) for name, counts in layers.items()}
        size = file.container.file_bytes
        rows = [_statistics(name, counts, size) for name, counts in merged.items()]
        total = _merged(list(merged.values()))._replace(file_bytes=size)
        return FileStatistics(rows, _statistics("total", total, size), file.config, file.provenance)


class _Counts(NamedTuple):
    """Of one weight or several; for the rest see `Statistics`."""

    parameters: int
    zeros: int
    bits: float
    file_bytes: int
    entropy_bytes: float


def _count(file: PlacesFile, name: str) -> _Counts:
    size = math.prod(file.shapes[name])
    stored, coded = file.stored_bytes(name)
    if name not in file.axes:
        values = file.floats(name)
        if values.ndim < 2:
            return _Counts(size, 0, 0.0, stored, stored)
        return _Counts(size, size - int(np.count_nonzero(values)), 32.0, stored, stored)
    kernel = file.shared_kernel(name)
    counts = histogram(kernel.indices, len(kernel.levels))
    zeros = int(counts[kernel.levels == 0].sum())
    bits = math.log2(max(1, int(np.count_nonzero(counts))))
    return _Counts(size, zeros, bits, stored, stored - coded + entropy(counts) / 8)


def _merged(counts: list[_Counts]) -> _Counts:
    parameters, zeros, bits, file_bytes, entropy_bytes = zip(*counts, strict=True)
    return _Counts(sum(parameters), sum(zeros), max(bits), sum(file_bytes), sum(entropy_bytes))


def _statistics(name: str, counts: _Counts, size: int) -> Statistics:
    parameters = max(1, counts.parameters)
    return Statistics(
        name=name,
        parameters=counts.parameters,
        pruned=100 * counts.zeros / parameters,
        bits=counts.bits,
        bits_per_parameter=8 * counts.file_bytes / parameters,
        file_bytes=counts.file_bytes,
        entropy_bytes=math.ceil(counts.entropy_bytes),
        share=100 * counts.file_bytes / size,
    )


def histogram(indices: np.ndarray, levels: int) -> np.ndarray:
    """How often each index from 0 to levels − 1 occurs, int64 `[levels]`."""
    flat = indices.reshape(-1)
    # In blocks, as bincount makes 64-bit integers of all it is given.
    blocks = (flat[i : i + _BLOCK] for i in range(0, flat.size, _BLOCK))
    return sum((np.bincount(block, minlength=levels) for block in blocks), np.zeros(levels, np.int64))


def entropy(counts: np.ndarray) -> float:
    """Zero-order entropy of all symbols together, in bits (Shannon 1948): Σ count · log2(total / count)."""
    used = counts[counts > 0]
    return float(np.sum(used * np.log2(used.sum() / used)))
