"""Sets of records as bits: which of a block of records have a facet, and between which moments they lie."""

from array import array
from collections.abc import Iterable, Iterator

BLOCK = 16_384  # records in a block
GROUP = 64  # records that share a span of time
BYTES = BLOCK // 8
FULL = (1 << BLOCK) - 1
_GROUP_BITS = (1 << GROUP) - 1
_MAX_LISTED = 256  # so few are listed, more are bits
_ALWAYS = (-(2**63), 2**63 - 1)


def place_of(seq: int) -> tuple[int, int]:
    """Give the block that a record is in, and its place there."""
    return divmod(seq - 1, BLOCK)


class Places:
    """A set of places that grows: listed while they are few, bits when they are many."""

    __slots__ = ("_bits", "_listed")

    def __init__(self, packed: bytes = b"") -> None:
        self._bits: bytearray | None = bytearray(packed) if len(packed) == BYTES else None
        self._listed = array("H") if len(packed) == BYTES else array("H", packed)

    def add(self, place: int) -> None:
        """Take in one more place."""
        if self._bits is None:
            if len(self._listed) < _MAX_LISTED:
                self._listed.append(place)
                return
            self._bits = bytearray(_spread(self._listed))
        self._bits[place >> 3] |= 1 << (place & 7)

    def pack(self) -> bytes:
        """Spell it."""
        return self._listed.tobytes() if self._bits is None else bytes(self._bits)


def unpack(packed: bytes) -> int:
    """Read a set of places as an integer whose bits are set."""
    if len(packed) != BYTES:
        packed = _spread(array("H", packed))
    return int.from_bytes(packed, "little")


def pack(bits: int) -> bytes:
    """Spell a set of places given as an integer whose bits are set."""
    if bits.bit_count() > _MAX_LISTED:
        return bits.to_bytes(BYTES, "little")
    return array("H", sorted(_descending(bits))).tobytes()


def _spread(listed: "array[int]") -> bytes:
    bits = bytearray(BYTES)
    for place in listed:
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def seqs_of(block: int, bits: int, *, newest_first: bool = True) -> Iterator[int]:
    """Give the numbers of a block's records whose bits are set."""
    first = block * BLOCK + 1
    found = _descending(bits) if newest_first else reversed(list(_descending(bits)))
    return (first + place for place in found)


def _descending(bits: int) -> Iterator[int]:
    for number in range(BYTES // 8 - 1, -1, -1):
        word = (bits >> (number * 64)) & 0xFFFF_FFFF_FFFF_FFFF if bits else 0
        while word:
            place = word.bit_length() - 1
            word ^= 1 << place
            yield number * 64 + place


class Times:
    """Between which moments each group of a block's records lies; a clock that jumped is no exception."""

    def __init__(self, packed: bytes = b"") -> None:
        self._spans = array("q", packed)

    def add(self, place: int, ts_us: int) -> None:
        """Take in the moment of one more record."""
        at = place // GROUP * 2
        while len(self._spans) <= at:
            self._spans.extend((_ALWAYS[1], _ALWAYS[0]))
        self._spans[at] = min(self._spans[at], ts_us)
        self._spans[at + 1] = max(self._spans[at + 1], ts_us)

    def pack(self) -> bytes:
        """Spell it."""
        return self._spans.tobytes()

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest moment."""
        return min(self._spans[0::2]), max(self._spans[1::2])

    def between(self, since: int, until: int) -> int:
        """Give, as bits, every group that may have a record from `since` up to, not including, `until`."""
        spans = zip(self._spans[0::2], self._spans[1::2], strict=True)
        return _groups(number for number, (first, last) in enumerate(spans) if last >= since and first < until)


def _groups(numbers: Iterable[int]) -> int:
    bits = bytearray(BYTES)
    for number in numbers:
        bits[number * GROUP // 8 : (number + 1) * GROUP // 8] = _GROUP_BITS.to_bytes(GROUP // 8, "little")
    return int.from_bytes(bits, "little")
