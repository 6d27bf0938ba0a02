"""Speed and size of the entropy coder beside zlib, zstd and constriction, on the same symbols in the same run.

    python tests/coding/benchmark_coding.py [--symbols=134217728]

Sizes are divided by the zero-order entropy; speeds are millions of symbols per second (the best of three for decoding)
and, behind them, ours divided by the other's. zlib -9 and zstd -19 are slow and see the first 4 million symbols only.
"""

import argparse
import time
import zlib

import numpy as np

from tfplaces.coding import decode, encode

LAPLACE = np.exp(-np.abs(np.arange(31) - 15) / 2.2)
BELL = np.exp(-(((np.arange(256) - 128) / 90) ** 2) / 2)
DISTRIBUTIONS = {
    "whitening, 32 levels, 76 % zeros": np.r_[0.76, 0.24 * LAPLACE / LAPLACE.sum()],
    "whitening, 3 levels, 90 % zeros": np.array([0.9, 0.05, 0.05]),
    "near-uniform, 256 levels": BELL / BELL.sum(),
}
SLICE = 4_000_000


def draw(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Symbols `[count]` of these probabilities to 1/65536."""
    thresholds = np.cumsum(probabilities)[:-1] * 65536
    table = np.searchsorted(thresholds, np.arange(65536), side="right").astype(np.uint8)
    return table[np.random.default_rng(0).integers(0, 65536, count, dtype=np.uint16)]


def of_zlib(symbols):
    data = symbols[:SLICE].tobytes()
    return SLICE, lambda: zlib.compress(data, 9), zlib.decompress


def of_zstd(symbols):
    import zstandard

    data = symbols[:SLICE].tobytes()
    return SLICE, lambda: zstandard.compress(data, 19), zstandard.decompress


def of_constriction(symbols):
    import constriction

    model, stack = constriction.stream.model, constriction.stream.stack
    counts = np.bincount(symbols[:SLICE])
    categorical = model.Categorical((counts / counts.sum()).astype(np.float32), perfect=False)
    values = symbols.astype(np.int32)

    def compress():
        coder = stack.AnsCoder()
        coder.encode_reverse(values, categorical)
        return coder.get_compressed()

    return symbols.size, compress, lambda data: stack.AnsCoder(data).decode(categorical, symbols.size)


CODERS = {
    "tfplaces": lambda symbols: (symbols.size, lambda: encode(symbols), lambda data: decode(data, symbols.size)),
    "constriction": of_constriction,
    "zlib -9": of_zlib,
    "zstd -19": of_zstd,
}


def timed(function, repeats):
    best = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - started)
    return result, best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1 << 27)
    count = max(SLICE, parser.parse_args().symbols)
    for title, probabilities in DISTRIBUTIONS.items():
        symbols = draw(probabilities, count)
        shares = sum(np.bincount(part, minlength=256) for part in np.array_split(symbols, 100)) / count
        shares = shares[shares > 0]
        bits = -(shares * np.log2(shares)).sum()
        print(f"\n{title}: {bits:.3f} bits of entropy, {count} symbols")
        ours = None
        for name, coder in CODERS.items():
            try:
                size, compress, decompress = coder(symbols)
            except ImportError:
                print(f"  {name:13} not installed")
                continue
            data, encoding = timed(compress, 1)
            decoded, decoding = timed(lambda d=data, f=decompress: f(d), 3)
            decoded = np.frombuffer(decoded, np.uint8) if isinstance(decoded, bytes) else decoded
            assert np.array_equal(decoded, symbols[:size]), name
            speeds = np.array([size / encoding, size / decoding]) / 1e6
            ours = speeds if ours is None else ours
            ratio = memoryview(data).nbytes * 8 / (bits * size)
            print(
                f"  {name:13} size {ratio:.4f} x entropy, encodes {speeds[0]:6.1f} M/s ({ours[0] / speeds[0]:6.1f} x), "
                f"decodes {speeds[1]:6.1f} M/s ({ours[1] / speeds[1]:6.1f} x)",
                flush=True,
            )


if __name__ == "__main__":
    main()
