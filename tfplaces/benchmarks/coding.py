"""Size and speed of the entropy coder beside gzip, zstd and constriction, on the same symbols in the same run."""

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
# What gzip -9 and zstd -19, which are slow, see of the symbols.
SLICE = 4_000_000

# Symbols seen, a function that compresses them and one that undoes it.
Coder = tuple[int, Callable[[], bytes | np.ndarray], Callable]


def draw(probabilities: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Symbols, uint8 `[count]`, of these probabilities to 1/65536."""
    thresholds = np.cumsum(probabilities)[:-1] * 65536
    table = np.searchsorted(thresholds, np.arange(65536), side="right").astype(np.uint8)
    return table[np.random.default_rng(seed).integers(0, 65536, count, dtype=np.uint16)]


def entropy(symbols: np.ndarray) -> float:
    """Zero-order entropy of uint8 symbols, in bits per symbol."""
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
    """Size and speed of each coder on the symbols of each distribution.

    Args:
        count: symbols; gzip and zstd see the first 4 million only.
        seed: of the symbols.

    Returns:
        a row per distribution and coder: `symbols`, `entropy` (bits per symbol), `size` (over that entropy), `encode`
        and `decode` (symbols a second), `encode_ratio` and `decode_ratio` (tfplaces over this one); only the first two
        where a coder is not installed.

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
    """The result and the least seconds."""
    best = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - started)
    return result, best


def measure_small(seed: int = 0) -> list[dict]:
    """Size of small tensors, side information included: a small tensor must not pay for a large one's set-up.

    Returns:
        a row per distribution and size: `symbols`, `bytes`, `over_entropy` and `over_raw`, ratios.
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
