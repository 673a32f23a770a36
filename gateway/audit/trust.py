"""Whose signature to believe: the key that is given, and the keys it hands over to or took over from."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.audit.checkpoint import Note, VerifierKey, parse_rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A key, and the sizes of the log over which its signature counts; None: there is no end yet."""

    key: VerifierKey
    since: int = 0
    until: int | None = None

    def signed(self, note: Note) -> bool:
        """Tell whether it signed `note` while it counted."""
        return self.since <= note.size and (self.until is None or note.size <= self.until) and self.key.signed(note)


class KeyChain:
    """The keys of one log in their order, as the rotations prove them from one that is known.

    A rotation counts if both keys that it names signed it. `unproven` are the places of those that do not.
    """

    def __init__(self, known: VerifierKey, rotations: Sequence[Note]) -> None:
        """Follow `rotations`, oldest first, from `known` forward and back.

        Raises:
            VerificationError: one of them names something that is no key.

        """
        steps = [(note, parse_rotation(note)) for note in rotations]
        self.unproven = [
            place
            for place, (note, pair) in enumerate(steps)
            if pair is None or not (pair[0].signed(note) and pair[1].signed(note))
        ]
        proven = [(note.size, *pair) for place, (note, pair) in enumerate(steps) if pair and place not in self.unproven]
        chain = [known]
        sizes: list[int] = []
        for size, old, new in proven:
            if old == chain[-1]:
                chain.append(new)
                sizes.append(size)
        for size, old, new in reversed(proven):
            if new == chain[0]:
                chain.insert(0, old)
                sizes.insert(0, size)
        ends: list[int | None] = [*sizes, None]
        self.reigns = [
            Reign(key=key, since=since, until=until) for key, since, until in zip(chain, [0, *sizes], ends, strict=True)
        ]

    def signed(self, note: Note) -> bool:
        """Tell whether a key of the chain signed `note` in its time."""
        return any(reign.signed(note) for reign in self.reigns)
