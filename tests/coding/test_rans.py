"""The entropy coder against FORMAT.md: `reference_decode` is written from that page alone, symbol by symbol.

TFPLACES_FUZZ=n makes the hypothesis tests try n times as many inputs (the default run is a few seconds).
"""

import os
import re
import time
import tracemalloc
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfplaces.coding import decode, encode, rans

FORMAT = Path(rans.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
FUZZ = int(os.environ.get("TFPLACES_FUZZ", "1"))


def fuzz(examples):
    return settings(max_examples=examples * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))


def reference_decode(data, count):
    """The section "Stream" of FORMAT.md: a list of symbols, or ValueError."""
    position = 0

    def number(size):
        nonlocal position
        position += size
        if position > len(data):
            raise ValueError("too short")
        return int.from_bytes(data[position - size : position], "little")

    def varint():
        value = 0
        for i in range(5):
            byte = number(1)
            value += (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value
        raise ValueError("long varint")

    def check(rule):
        if not rule:
            raise ValueError("broken rule")

    symbols = []
    mode = number(1) if count else None
    if mode == 0:
        symbols = [number(1)] * count
    elif mode == 1:
        w = number(1)
        check(w in (1, 2, 4, 8))
        bits = number(-(-count * w // 8))
        symbols = [(bits >> (i * w)) & ((1 << w) - 1) for i in range(count)]
        check(bits >> (count * w) == 0)
    elif mode == 2:
        g, b, levels, n = varint(), varint(), varint(), varint()
        check(g in (1, 2, 4, 8) and 1 <= b <= 16 and 2 <= levels <= 256 and levels**g <= 4096)
        grams = -(-count // g)
        check(1 <= n <= grams <= n << 18)
        f = []
        while len(f) < levels**g:
            f.append(varint())
            if f[-1] == 0:
                zeros = varint()
                check(len(f) + zeros <= levels**g)
                f += [0] * zeros
        check(sum(f) == 1 << b and max(f) < 1 << b)
        c = [0, *accumulate(f)]
        table = [gram for gram in range(len(f)) for _ in range(f[gram])]
        x = [number(4) for _ in range(n)]
        check(min(x) >= 1 << 16)
        for i in range(grams):
            slot = x[i % n] & ((1 << b) - 1)
            gram = table[slot]
            symbols += [gram // levels ** (g - 1 - k) % levels for k in range(g)]
            x[i % n] = f[gram] * (x[i % n] >> b) + slot - c[gram]
            if x[i % n] < 1 << 16:
                x[i % n] = x[i % n] << 16 | number(2)
        check(set(x) == {1 << 16})
    else:
        check(mode is None)
    check(position == len(data))
    return symbols[:count]


def outcome(decoder, data, count):
    """The symbols, or None for a ValueError; any other exception is a failure."""
    try:
        return list(decoder(data, count))
    except ValueError as error:
        assert "\n" not in str(error)
        return None


def skewed(count, levels, power, seed=0):
    """`count` symbols below `levels`; evenly spread at `power` 1, mostly zeros at 10."""
    return (levels * np.random.default_rng(seed).random(count) ** power).astype(np.uint8)


def entropy_bytes(symbols):
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float((counts * np.log2(symbols.size / counts)).sum() / 8)


def drawn(probabilities, count=1_000_000):
    return np.random.default_rng(1).choice(len(probabilities), count, p=probabilities).astype(np.uint8)


def of_entropy(bits, levels, count):
    """Geometric symbols of about this entropy: the decay is found by bisection."""
    low, high = 0.001, 1.0
    for _ in range(50):
        decay = (low + high) / 2
        p = decay ** np.arange(levels)
        p /= p.sum()
        low, high = (decay, high) if -(p * np.log2(p)).sum() < bits else (low, decay)
    return drawn(p, count)


LAPLACE = np.exp(-np.abs(np.arange(31) - 15) / 2.2)
WHITENING = np.r_[0.76, 0.24 * LAPLACE / LAPLACE.sum()]  # 32 levels, 76 % zeros, 1.65 bits

LARGE = {
    "76 % zeros, 32 levels": drawn(WHITENING),
    "90 % zeros, 3 levels": drawn([0.9, 0.05, 0.05]),
    "95 % zeros, 2 levels": drawn([0.95, 0.05]),
    "near-uniform, 256 levels": drawn((p := np.exp(-(((np.arange(256) - 128) / 90) ** 2) / 2)) / p.sum()),
    "peaked, 256 levels": drawn((p := np.exp(-np.abs(np.arange(256) - 128) / 6.0)) / p.sum()),
    "uniform, 32 levels": drawn(np.full(32, 1 / 32)),
    "uniform, 256 levels": drawn(np.full(256, 1 / 256)),
    "two values far apart": drawn([0.7, 0.3]) * np.uint8(255),
    "geometric, 0.5 bits": of_entropy(0.5, 16, 1_000_000),
    "geometric, 3 bits": of_entropy(3, 64, 1_000_000),
}


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 8, 16, 17, 64, 255, 256])
def test_round_trip_of_every_small_size(levels):
    for count in [*range(40), 255, 256, 257, 1000]:
        for power in (1, 3, 10):
            symbols = skewed(count, levels, power, seed=count)
            data = encode(symbols)
            np.testing.assert_array_equal(decode(data, count), symbols)
            assert list(symbols) == reference_decode(data, count)


@pytest.mark.parametrize("name", LARGE)
def test_round_trip_and_size_of_large_tensors(name):
    symbols = LARGE[name]
    data = encode(symbols)
    np.testing.assert_array_equal(decode(data, symbols.size), symbols)
    assert len(data) <= 1.003 * entropy_bytes(symbols)


def test_size_of_small_tensors():
    for count in (500, 1000, 3000):
        for levels in (4, 5, 8, 16, 32):
            symbols = of_entropy(1.95, levels, count)
            assert len(encode(symbols)) <= 1.1 * entropy_bytes(symbols) + 40, (count, levels)
    assert len(encode(np.zeros(0, np.uint8))) == 0
    assert len(encode(np.full(10_000_000, 7, np.uint8))) == 2
    for count in range(1, 50):
        assert len(encode(skewed(count, 256, 1))) <= count + 2
        assert len(encode(skewed(count, 2, 1))) <= -(-count // 8) + 2


def test_repeating_symbols_are_not_taken_for_constant_grams():
    for period in (2, 3, 4, 8):
        symbols = np.tile(np.arange(period, dtype=np.uint8) % 3, 4000)
        np.testing.assert_array_equal(decode(encode(symbols), symbols.size), symbols)


def test_equal_symbols_give_equal_bytes():
    symbols = skewed(20_000, 16, 3)
    data = encode(symbols)
    assert data == encode(symbols.copy()) == encode(symbols.reshape(100, 200))
    assert data == encode(np.repeat(symbols, 2)[::2]) == encode(np.asfortranarray(symbols.reshape(100, 200)))
    np.testing.assert_array_equal(decode(memoryview(bytearray(data)), 20_000), symbols)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="uint8 symbols, not int64"):
        encode(np.arange(4))


@pytest.mark.parametrize("gram, levels", [(1, 2), (1, 9), (1, 256), (2, 2), (2, 7), (2, 64), (4, 3), (4, 8), (8, 2)])
@pytest.mark.parametrize("slot_bits", [8, 11, 16])
@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
def test_every_model_agrees_with_the_reference(gram, levels, slot_bits, lanes):
    for count in (64 * gram + 1, 640):
        symbols = skewed(count, levels, 2, seed=count)
        counts = np.bincount(rans._grams(symbols, gram, levels), minlength=levels**gram)
        if np.count_nonzero(counts) <= 1 << slot_bits:
            frequencies = rans._quantize(counts, slot_bits)
            data = rans._encode_rans(symbols, rans._Plan(gram, slot_bits, levels, frequencies, lanes, 0))
            np.testing.assert_array_equal(decode(data, count), symbols)
            assert list(symbols) == reference_decode(data, count)


@fuzz(100)
@given(st.binary(min_size=1, max_size=600), st.integers(1, 8), st.integers(1, 40))
def test_any_bytes_come_back(symbols, bits, repeats):
    symbols = np.tile(np.frombuffer(symbols, np.uint8) >> (8 - bits), repeats)
    data = encode(symbols)
    np.testing.assert_array_equal(decode(data, symbols.size), symbols)
    assert len(data) <= symbols.size + 2


EXAMPLES = [(bytes.fromhex(text), int(count)) for count, text in re.findall(r"```hex rans (\d+)\n(.*)\n```", FORMAT)]
STREAMS = EXAMPLES + [(encode(s), s.size) for s in (skewed(300, 3, 4), skewed(200, 12, 3), skewed(40, 4, 1))]


@pytest.mark.parametrize("data, count", STREAMS, ids=range(len(STREAMS)))
def test_damaged_streams_end_as_the_reference_says(data, count):
    assert outcome(decode, data, count) is not None
    for size in range(len(data)):
        assert outcome(decode, data[:size], count) is None
    for extra in (b"\0", b"\0\0", data):
        assert outcome(decode, data + extra, count) is None
    for other in (0, 1, count - 1, count + 1, 2 * count, 10**6):
        assert outcome(decode, data, other) == outcome(reference_decode, data, other)
    for position in range(len(data)):
        for flip in (1, 8, 32, 128, 255):
            changed = bytearray(data)
            changed[position] ^= flip
            assert outcome(decode, changed, count) == outcome(reference_decode, changed, count)


@fuzz(300)
@given(st.sampled_from(STREAMS), st.data())
def test_mutated_streams_end_as_the_reference_says(stream, data):
    changed, count = bytearray(stream[0]), stream[1]
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(changed)))
        changed[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    count = data.draw(st.sampled_from([count, count, count, 0, 1, count + 1, 5000]))
    assert outcome(decode, changed, count) == outcome(reference_decode, changed, count)


@fuzz(300)
@given(st.sampled_from([b"", b"\0", b"\1", b"\2", b"\2\1\x08\2\1", b"\2\2\x02\2\1"]), st.binary(max_size=60), st.data())
def test_random_streams_end_as_the_reference_says(start, rest, data):
    count = data.draw(st.integers(0, 500))
    assert outcome(decode, start + rest, count) == outcome(reference_decode, start + rest, count)


def test_a_hostile_stream_takes_neither_memory_nor_time():
    varint = rans._varint
    model = bytes([2, 1, 1, 2])  # rANS, grams of one, two slots for two levels, and then lanes, frequencies
    streams = {
        "lanes": model + varint(2**34) + b"\1\1" + b"\xff" * 100,
        "lanes for": model + varint(1) + b"\1\1" + b"\0\0\1\0" * 100,
        "too early": model + varint(2**13) + b"\1\1" + b"\xff" * 4 * 2**13,
        "add up": model + varint(2**13) + b"\0" + varint(2**34) + b"\1\1",
        "1 levels": bytes([2, 1, 8, 1, 1]) + b"\1\1",
        "grams of 8": bytes([2, 8, 8, 32, 1]) + b"\1\1",
    }
    tracemalloc.start()
    for message, data in streams.items():
        started = time.perf_counter()
        tracemalloc.reset_peak()
        with pytest.raises(ValueError, match=message):
            decode(data, 2**31)
        assert time.perf_counter() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 2**31 + 10 * len(data) + 10**6
    tracemalloc.stop()


def test_the_examples_of_the_specification():
    said = re.findall(r"The symbols are ([\d ]+)\.", FORMAT)
    for (text, count), symbols in zip(EXAMPLES, said, strict=True):
        symbols = [int(symbol) for symbol in symbols.split()]
        assert list(decode(text, count)) == reference_decode(text, count) == symbols
