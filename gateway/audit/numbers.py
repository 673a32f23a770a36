"""A set of record numbers that stays small: a bit, or two bytes, for each of them."""

from collections.abc import Iterable, Iterator
from itertools import islice

from gateway.audit.index.blocks import Places, place_of, seqs_of, unpack


class Numbers:
    """Numbers of records, taken in in ascending order."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._blocks: dict[int, Places] = {}
        self.count = 0
        self.extend(numbers)

    def extend(self, numbers: Iterable[int]) -> None:
        """Take in more, each greater than the ones before."""
        for number in numbers:
            block, place = place_of(number)
            known = self._blocks.get(block)
            if known is None:
                known = self._blocks[block] = Places()
            known.add(place)
            self.count += 1

    def between(self, first: int, last: int) -> Iterator[int]:
        """Give those from `first` to `last`, ascending."""
        for block in range(place_of(first)[0], min(place_of(last)[0], max(self._blocks, default=-1)) + 1):
            known = self._blocks.get(block)
            if known is not None:
                found = seqs_of(block, unpack(known.pack()), newest_first=False)
                yield from (number for number in found if first <= number <= last)

    def pages(self, first: int, last: int, length: int) -> Iterator[list[int]]:
        """Give those from `first` to `last`, ascending, some at a time."""
        found = self.between(first, last)
        while page := list(islice(found, length)):
            yield page
