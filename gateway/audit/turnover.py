"""The turnover of a log's files: the live one is closed, the oldest closed one goes."""

from collections.abc import Callable
from datetime import datetime

from gateway.audit.book import CheckpointBook
from gateway.audit.group_commit import GroupCommit
from gateway.audit.leaf import Prepared, microseconds
from gateway.audit.segment import Segment
from gateway.audit.store import Store


class Turnover:
    """Changes which files one log has; only between commits, and with a signed checkpoint for each change."""

    def __init__(self, store: Store, book: CheckpointBook, commits: GroupCommit, now: Callable[[], datetime]) -> None:
        self._store, self._book, self._commits, self._now = store, book, commits, now

    def close_live(self) -> Segment | None:
        """Close the live file as a segment; None if it has no record yet or somebody reads it just now."""
        ts_us = microseconds(self._now())
        notes = self._store.write([], sign_end=True, ts_us=ts_us)
        self._store.commit()
        self._signed(notes)
        return self._store.rotate(ts_us)

    def drop(self, segment: Segment, told: Prepared) -> bool:
        """Drop the oldest closed file with the record that tells of it, once its last checkpoint is kept."""
        newest = self._commits.signed
        if newest is not None:
            self._book.keep(segment.note, newest[1])
        notes = self._store.drop(segment, told, microseconds(self._now()))
        if not notes:
            return False
        self._signed(notes)
        return True

    def _signed(self, notes: list[tuple[int, str]]) -> None:
        self._book.add([note for _, note in notes])
        self._commits.signed = notes[-1]
