"""Measures the entropy coder beside gzip, zstd and constriction, on the same symbols in the same run."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.coding import decode, encode
from tfplaces.common.progress import progress

_LAPLACE = np.exp(-np.abs(np.arange(31) - 15) / 2.2)
_BELL = np.exp(-(((np.arange(256) - 128) / 90) ** 2) / 2)
DISTRIBUTIONS = {
    "whitening, 32 levels, 76 % zeros": np.r_[0.76, 0.24 * _LAPLACE / _LAPLACE.sum()],
    "whitening, 3 levels, 90 % zeros": np.array([0.9, 0.05, 0.05]),
    "near-uniform, 256 levels": _BELL / _BELL.sum(),
}
SMALL = (100, 1_000, 10_000, 100_000)
# gzip -9 and zstd -19 are slow and get only so many of the symbols.
SLICE = 4_000_000

# The number of symbols that a coder gets, a function that compresses them and one that decompresses.
Coder = tuple[int, Callable[[], bytes | np.ndarray], Callable]


def draw(probabilities: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Draws symbols, uint8 `[count]`, with these probabilities, which are rounded to multiples of 1/65536."""
    thresholds = np.cumsum(probabilities)[:-1] * 65536
    table = np.searchsorted(thresholds, np.arange(65536), side="right").astype(np.uint8)
    return table[np.random.default_rng(seed).integers(0, 65536, count, dtype=np.uint16)]


def entropy(symbols: np.ndarray) -> float:
    """The zero-order entropy of uint8 symbols, in bits per symbol."""
    counts = np.zeros(256, np.int64)
    for part in np.array_split(symbols, 1 + symbols.size // 2**18):
        counts += np.bincount(part, minlength=256)
    shares = counts[counts > 0] / symbols.size
    return float(-np.sum(shares * np.log2(shares)))


def _tfplaces(symbols: np.ndarray) -> Coder:
    return symbols.size, lambda: encode(symbols), lambda data: decode(data, symbols.size)


def _constriction(symbols: np.ndarray) -> Coder:
    import constriction

    model, stack = constriction.stream.model, constriction.stream.stack
    counts = np.bincount(symbols[:SLICE], minlength=int(symbols.max()) + 1)
    categorical = model.Categorical((counts / counts.sum()).astype(np.float32), perfect=False)
    values = symbols.astype(np.int32)

    def compress() -> np.ndarray:
        coder = stack.AnsCoder()
        coder.encode_reverse(values, categorical)
        return coder.get_compressed()

    return symbols.size, compress, lambda data: stack.AnsCoder(data).decode(categorical, symbols.size)


def _gzip(symbols: np.ndarray) -> Coder:
    data = symbols[:SLICE].tobytes()
    return len(data), lambda: gzip.compress(data, 9), gzip.decompress


def _zstd(symbols: np.ndarray) -> Coder:
    import zstandard

    data = symbols[:SLICE].tobytes()
    return len(data), lambda: zstandard.compress(data, 19), zstandard.decompress


CODERS = {"tfplaces": _tfplaces, "constriction": _constriction, "zstd -19": _zstd, "gzip -9": _gzip}


def measure_coders(count: int, seed: int = 0) -> list[dict]:
    """Measures size and speed of each coder on the symbols of each distribution.

    Args:
        count: the number of symbols, of which gzip and zstd get the first 4 million at most.
        seed: gives the symbols.

    Returns:
        a row for each distribution and coder. It holds `symbols_of` and `coder`, which name them, `symbols` (their
        number), `entropy` (bits per symbol), `size` (the bytes over those that the entropy gives), `encode` and
        `decode` (symbols a second), and `encode_ratio` and `decode_ratio` (the speed of tfplaces over this coder's).
        Where a coder is not installed there are only the names.

    Raises:
        RuntimeError: a coder does not give the symbols back.
    """
    rows = []
    with progress(len(DISTRIBUTIONS) * len(CODERS), "coding", "coder") as bar:
        for title, probabilities in DISTRIBUTIONS.items():
            symbols = draw(probabilities, count, seed)
            bits = entropy(symbols)
            ours = None
            for name, coder in CODERS.items():
                row: dict[str, Any] = {"symbols_of": title, "coder": name}
                try:
                    row |= _measure(coder(symbols), symbols)
                    ours = ours or row
                    row["entropy"] = bits
                    row["size"] = 8 * row["bytes"] / (row["symbols"] * bits)
                    row["encode_ratio"] = ours["encode"] / row["encode"]
                    row["decode_ratio"] = ours["decode"] / row["decode"]
                except ImportError:
                    pass
                rows.append(row)
                bar.update()
    return rows


def _measure(coder: Coder, symbols: np.ndarray) -> dict:
    size, compress, decompress = coder
    data, encoding = _timed(compress, 1)
    decoded, decoding = _timed(lambda: decompress(data), 3)
    decoded = np.frombuffer(decoded, np.uint8) if isinstance(decoded, bytes) else decoded
    if not np.array_equal(decoded, symbols[:size]):
        raise RuntimeError("a coder does not give back what it was given")
    return {"symbols": size, "bytes": memoryview(data).nbytes, "encode": size / encoding, "decode": size / decoding}


def _timed(function: Callable, repeats: int) -> tuple:
    """The result of a function and the shortest time of several calls, in seconds."""
    best = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - started)
    return result, best


def measure_small(seed: int = 0) -> list[dict]:
    """Measures how many bytes small tensors take, with all side information.

    Returns:
        a row for each distribution and number of symbols. It holds `symbols_of`, `symbols`, `bytes`, and the ratios of
        the bytes to the zero-order entropy, `over_entropy`, and to a byte a symbol, `over_raw`.
    """
    rows = []
    for title, probabilities in DISTRIBUTIONS.items():
        for count in SMALL:
            symbols = draw(probabilities, count, seed)
            size = len(encode(symbols))
            bound = entropy(symbols) * count / 8
            rows.append(
                {"symbols_of": title, "symbols": count, "bytes": size, "over_entropy": size / bound,
                 "over_raw": size / count}
            )  # fmt: skip
    return rows
