"""Static-model interleaved rANS: uint8 symbols to bytes near their zero-order entropy and back, fast in pure numpy.

A range asymmetric numeral system (Duda, "Asymmetric numeral systems", arXiv:1311.2540) keeps a message in one integer,
its state. Here up to thousands of states, the *lanes*, advance together as one numpy vector: a *step* codes one symbol
in every lane, the next step the symbols that follow, and the 16-bit words that lanes shed share one stream, in lane
order. A lane costs about 3 bytes of the file, a step about 5 microseconds: hence lanes in proportion to the data.

To go faster where entropy is low, what is coded is a *gram*: 1, 2, 4 or 8 neighbouring symbols taken as one.
FORMAT.md specifies the bytes; the decoder trusts none of them.

Threads were measured and left out: at this grain they queue for Python's global lock, and two are slower than one.
"""

from dataclasses import dataclass

import numpy as np

from tfplaces.common.errors import UserError

CONSTANT, PACKED, RANS = range(3)  # the first byte of a stream
LOW = 1 << 16  # states are in [LOW, LOW << 16) between steps; every lane starts, in the encoder, at LOW
MAX_GRAMS = 1 << 12  # levels ** gram size
MAX_SLOT_BITS = 16
MAX_STEPS = 1 << 18  # bounds the time that a small hostile stream can take
MAX_LANES = 1 << 14  # more do not make it faster


def encode(symbols: np.ndarray) -> bytes:
    """Codes symbols in the shortest of three ways: constant, packed bits, rANS. Equal symbols give equal bytes.

    Args:
        symbols: uint8 array of any shape, taken in C order.

    Returns:
        The stream. It does not hold the number of symbols, which `decode` has to be told.

    Raises:
        ValueError: the array is not uint8.
    """
    if symbols.dtype != np.uint8:
        raise UserError(f"rANS codes uint8 symbols, not {symbols.dtype}")
    symbols = np.ascontiguousarray(symbols).reshape(-1)
    if not symbols.size:
        return b""
    highest = int(symbols.max())
    if highest == int(symbols.min()):
        return bytes([CONSTANT, highest])
    width, packed_size = _packed_size(symbols.size, highest)
    plan = _plan(symbols, highest + 1)
    if plan.size < packed_size:
        stream = _encode_rans(symbols, plan)
        if len(stream) < packed_size:
            return stream
    return bytes([PACKED, width]) + _pack(symbols, width)


def encoded_bytes(symbols: np.ndarray) -> int:
    """About the length of what `encode` makes of symbols, uint8 of any shape; takes a fraction of its time."""
    symbols = np.ascontiguousarray(symbols).reshape(-1)
    if not symbols.size:
        return 0
    highest = int(symbols.max())
    if highest == int(symbols.min()):
        return 2
    return min(_packed_size(symbols.size, highest)[1], round(_plan(symbols, highest + 1).size))


def decode(data: bytes | memoryview, count: int) -> np.ndarray:
    """Decodes what `encode` made.

    Args:
        data: the whole stream and nothing else.
        count: how many symbols it holds.

    Returns:
        uint8 array `[count]`.

    Raises:
        ValueError: the stream breaks a rule of FORMAT.md. Nothing larger than `count` bytes and the length of `data`
            (and tables of a megabyte) is allocated, whatever the stream says.
    """
    reader = _Reader(memoryview(data))
    if count == 0:
        symbols = np.empty(0, np.uint8)
    elif (mode := reader.byte()) == CONSTANT:
        symbols = np.full(count, reader.byte(), np.uint8)
    elif mode == PACKED:
        symbols = _unpack(reader, count)
    elif mode == RANS:
        symbols = _decode_rans(reader, count)
    else:
        raise UserError(f"corrupt stream: unknown mode {mode}")
    reader.end()
    return symbols


# Packed bits: symbol i is in bits (i * width) % 8 and up of byte i * width // 8.


def _packed_size(count: int, highest: int) -> tuple[int, int]:
    """Bits per symbol, and bytes of the stream."""
    width = next(width for width in (1, 2, 4, 8) if highest < 1 << width)
    return width, 2 + -(-count * width // 8)


def _pack(symbols: np.ndarray, width: int) -> bytes:
    per_byte = 8 // width
    padded = np.pad(symbols, (0, -symbols.size % per_byte)).reshape(-1, per_byte)
    return np.bitwise_or.reduce(padded << np.arange(0, 8, width, dtype=np.uint8), axis=1).tobytes()


def _unpack(reader: "_Reader", count: int) -> np.ndarray:
    width = reader.byte()
    if width not in (1, 2, 4, 8):
        raise UserError(f"corrupt stream: {width} bits per packed symbol, not 1, 2, 4 or 8")
    packed = np.frombuffer(reader.take(-(-count * width // 8)), np.uint8)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    symbols = (packed[:, None] >> shifts).reshape(-1)
    symbols &= np.uint8((1 << width) - 1)
    if symbols[count:].any():
        raise UserError("corrupt stream: padding bits are not zero")
    return symbols[:count]


# The model: grams of neighbouring symbols, their frequencies in units of 2 ** -slot_bits.


@dataclass(frozen=True)
class _Plan:
    """How to code a tensor: in grams of `gram` symbols below `levels`, `frequencies` [levels ** gram]."""

    gram: int
    slot_bits: int
    levels: int
    frequencies: np.ndarray
    lanes: int
    size: float  # expected bytes of the stream


def _plan(symbols: np.ndarray, levels: int) -> _Plan:
    """The fastest of the plans that come within 0.1 % of the shortest stream."""
    plans = []
    for gram in (8, 4, 2, 1):
        if levels**gram > MAX_GRAMS or gram > symbols.size:
            continue
        counts = _histogram(_grams(symbols, gram, levels), levels**gram)
        for slot_bits in (12, 14, 16, 10, 8):  # tables of 2 ** 12 are fast; 2 ** 16, as many as LOW, lose 0.1 %
            if 1 < np.count_nonzero(counts) <= 1 << slot_bits:
                frequencies = _quantize(counts, slot_bits)
                used = counts > 0
                size = float(np.sum(counts[used] * (slot_bits - np.log2(frequencies[used])))) / 8
                lanes = _lanes(symbols.size, -(-symbols.size // gram), size)
                size += 3 * lanes + len(_pack_frequencies(frequencies)) + 8
                plans.append(_Plan(gram, slot_bits, levels, frequencies, lanes, size))
    shortest = min(plan.size for plan in plans)
    return next(plan for plan in plans if plan.size <= 1.001 * shortest)


def _lanes(symbols: int, grams: int, size: float) -> int:
    """As many as cost little, about 3 bytes each: 0.15 % of a large tensor, 0.6 % of a small one, which is slower."""
    affordable = int(size / (2048 if symbols >= 1_000_000 else 512))
    return max(1, -(-grams // MAX_STEPS), min(affordable, MAX_LANES, grams))


def _grams(symbols: np.ndarray, gram: int, levels: int) -> np.ndarray:
    """Numbers grams in base `levels`, first symbol first; the last gram is filled up with its own last symbol."""
    if gram == 1:
        return symbols
    digits = np.pad(symbols, (0, -symbols.size % gram), mode="edge")
    while gram > 1:
        high, low = digits[0::2], digits[1::2]
        digits = np.multiply(high, levels, dtype=np.uint16)
        digits += low
        gram, levels = gram // 2, levels**2
    return digits


def _gram_symbols(gram: int, levels: int) -> np.ndarray:
    """The inverse: uint8 `[levels ** gram, gram]`."""
    return np.stack(np.unravel_index(np.arange(levels**gram), (levels,) * gram), axis=1).astype(np.uint8)


def _histogram(grams: np.ndarray, size: int) -> np.ndarray:
    chunk = 1 << 16  # bincount makes 64-bit integers of all it is given
    counts = np.zeros(size, np.int64)
    for i in range(0, len(grams), chunk):
        counts += np.bincount(grams[i : i + chunk], minlength=size)
    return counts


def _quantize(counts: np.ndarray, slot_bits: int) -> np.ndarray:
    """Frequencies of sum `2 ** slot_bits`, none of them 0 where a count is not; corrected where it costs least."""
    total = 1 << slot_bits
    frequencies = np.where(counts > 0, np.maximum(1, counts * total // counts.sum()), 0)
    while (missing := total - int(frequencies.sum())) > 0:
        gain = counts * np.log2((frequencies + 1) / np.maximum(frequencies, 1))
        frequencies[np.argsort(-gain, kind="stable")[: max(1, missing // 4)]] += 1
    while (excess := int(frequencies.sum()) - total) > 0:
        often = np.maximum(frequencies, 2)
        loss = np.where(frequencies > 1, counts * np.log2(often / (often - 1)), np.inf)
        cheapest = np.argsort(loss, kind="stable")[: max(1, excess // 4)]
        frequencies[cheapest[frequencies[cheapest] > 1]] -= 1
    return frequencies


def _pack_frequencies(frequencies: np.ndarray) -> bytes:
    """A varint for each; after a 0 another says how many more 0s follow."""
    packed, i, values = bytearray(), 0, frequencies.tolist()
    while i < len(values):
        packed += _varint(values[i])
        i += 1
        if not values[i - 1]:
            run = next((j for j in range(i, len(values)) if values[j]), len(values)) - i
            packed += _varint(run)
            i += run
    return bytes(packed)


def _read_frequencies(reader: "_Reader", size: int, slot_bits: int) -> np.ndarray:
    frequencies, i = np.zeros(size, np.int64), 0
    while i < size:
        frequencies[i] = value = reader.varint()
        i += 1 if value else 1 + reader.varint()
    if i != size or frequencies.sum() != 1 << slot_bits or frequencies.max() == 1 << slot_bits:
        raise UserError("corrupt stream: symbol frequencies do not add up")
    return frequencies


# rANS proper. Encoding runs backwards, from the last step to the first, so that decoding runs forwards.


def _encode_rans(symbols: np.ndarray, plan: _Plan) -> bytes:
    grams = _grams(symbols, plan.gram, plan.levels)
    frequency = plan.frequencies.astype(np.uint32)
    start = np.cumsum(frequency, dtype=np.uint32) - frequency
    rest = np.uint32(1 << plan.slot_bits) - frequency
    limit = frequency << np.uint32(32 - plan.slot_bits)
    state = np.full(plan.lanes, LOW, np.uint32)
    words = []
    for first in reversed(range(0, len(grams), plan.lanes)):
        gram = grams[first : first + plan.lanes].astype(np.intp)
        x = state[: len(gram)]
        full = (x >= limit[gram]).nonzero()[0]
        shed = x[full]
        words.append(shed.astype("<u2").tobytes())  # the lower half
        x[full] = shed >> np.uint32(16)
        # x = (x // f << slot_bits) + x % f + start, with one division
        x += x // frequency[gram] * rest[gram] + start[gram]
    side = [bytes([RANS]), *map(_varint, (plan.gram, plan.slot_bits, plan.levels, plan.lanes))]
    side += [_pack_frequencies(plan.frequencies), state.astype("<u4").tobytes()]
    return b"".join(side + words[::-1])


def _decode_rans(reader: "_Reader", count: int) -> np.ndarray:
    gram, slot_bits, levels, lanes = (reader.varint() for _ in range(4))
    if gram not in (1, 2, 4, 8) or not 1 <= slot_bits <= MAX_SLOT_BITS:
        raise UserError(f"corrupt stream: grams of {gram} symbols, {slot_bits} bits")
    if not 2 <= levels <= 256 or levels**gram > MAX_GRAMS:
        raise UserError(f"corrupt stream: {levels} levels in grams of {gram}")
    grams = -(-count // gram)
    if not 1 <= lanes <= grams <= lanes * MAX_STEPS:
        raise UserError(f"corrupt stream: {lanes} lanes for {grams} grams")
    table = _Table.of(_read_frequencies(reader, levels**gram, slot_bits), gram, levels)
    state = np.frombuffer(reader.take(4 * lanes), "<u4").astype(np.uint32)
    words = np.frombuffer(reader.take(len(reader) // 2 * 2), "<u2")
    if state.min() < LOW:
        raise UserError("corrupt stream: a state is too low")
    out = np.empty(grams, table.symbols.dtype)
    whole = grams // lanes * lanes
    position = _decode_steps(out[:whole].reshape(-1, lanes), state, words, 0, table)
    position = _decode_steps(out[whole:].reshape(1, -1), state[: grams - whole], words, position, table)
    if position != len(words) or (state != LOW).any():
        raise UserError("corrupt stream: it does not end where it should")
    return out.view(np.uint8)[:count]


@dataclass(frozen=True)
class _Table:
    """What a state's lowest `slot_bits` bits, its slot, say: arrays `[2 ** slot_bits]`."""

    slot_bits: int
    symbols: np.ndarray  # the gram's symbols, side by side in one unsigned integer
    entries: np.ndarray  # uint32: the gram's frequency << 16 | the slot's place among the gram's slots

    @classmethod
    def of(cls, frequencies: np.ndarray, gram: int, levels: int) -> "_Table":
        gram_of_slot = np.repeat(np.arange(len(frequencies)), frequencies)
        place = np.arange(len(gram_of_slot)) - (np.cumsum(frequencies) - frequencies)[gram_of_slot]
        entries = (frequencies[gram_of_slot] << 16 | place).astype(np.uint32)
        symbols = _gram_symbols(gram, levels)[gram_of_slot].view(f"u{gram}").reshape(-1)
        return cls(len(entries).bit_length() - 1, symbols, entries)


def _decode_steps(out: np.ndarray, x: np.ndarray, words: np.ndarray, position: int, table: _Table) -> int:
    """Decodes `out` [steps, lanes], updates the states `x` [lanes], returns the new position in `words`."""
    slot, entry = np.empty(len(x), np.intp), np.empty(len(x), np.uint32)
    slot_bits, slot_mask = np.uint32(table.slot_bits), np.uint32((1 << table.slot_bits) - 1)
    sixteen, low, lower_half = np.uint32(16), np.uint32(LOW), np.uint32(0xFFFF)
    for row in out:
        np.bitwise_and(x, slot_mask, out=slot, casting="unsafe")
        table.symbols.take(slot, out=row, mode="clip")  # no slot is out of range: clip is the mode without a copy
        table.entries.take(slot, out=entry, mode="clip")
        x >>= slot_bits
        x *= entry >> sixteen
        entry &= lower_half
        x += entry
        hungry = (x < low).nonzero()[0]
        end = position + len(hungry)
        if end > len(words):
            raise UserError("corrupt stream: it ends too early")
        x[hungry] = x[hungry] << sixteen | words[position:end]
        position = end
    return position


# Side information: varints, seven bits a byte, lowest first, the top bit says that another byte follows (LEB128).


def _varint(value: int) -> bytes:
    packed = bytearray()
    while value > 127:
        packed.append(value & 127 | 128)
        value >>= 7
    packed.append(value)
    return bytes(packed)


class _Reader:
    """Takes a stream from its front; ValueError where it is too short or, at its end, too long."""

    def __init__(self, data: memoryview):
        self._rest = data

    def __len__(self) -> int:
        return len(self._rest)

    def take(self, size: int) -> memoryview:
        if size > len(self._rest):
            raise UserError("corrupt stream: it ends too early")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise UserError("corrupt stream: a number is too long")

    def end(self) -> None:
        if len(self._rest):
            raise UserError(f"corrupt stream: {len(self._rest)} bytes left over")
