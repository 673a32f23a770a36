"""Whether the records of a period are the ones that were written: leaves, tree and checkpoints computed anew."""

import sqlite3
from collections import deque
from datetime import UTC, datetime

from gateway.audit.checkpoint import parse_note
from gateway.audit.merkle import Node, leaf_hash, read_frontier
from gateway.audit.row import Stored
from gateway.audit.trust import KeyChain
from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.errors import VerificationError

MAX_FINDINGS = 100
MAX_SIGNATURES = 5_000
_AHEAD = 500


class Integrity:
    """Goes along the records, oldest first, and compares with what was signed."""

    def __init__(self, node: Node, keys: KeyChain, first: int, last: int) -> None:
        self._keys = keys
        self._frontier = read_frontier(first - 1, node)
        self._connection: sqlite3.Connection | None = None
        self._first, self._last = first, last
        self._ahead: deque[tuple[int, int, str]] = deque()
        self._newest: dict[str, Json] | None = None
        self._checked = self._signatures = self._wrong = 0
        self._findings: list[str] = []

    def open(self, connection: sqlite3.Connection) -> None:
        """Go on in a file of the log, from its beginning or from the first record that is wanted."""
        self._connection = connection
        self._ahead.clear()
        self._read_ahead(self._frontier.size + 1)

    def add(self, stored: Stored) -> None:
        """Take in the next record."""
        seq, committed, leaf = stored[:3]
        computed = leaf_hash(committed)
        if computed != leaf:
            self._find(f"record {seq}: its content is not what was recorded")
        if seq != self._frontier.size + 1:
            self._find(f"record {self._frontier.size + 1} is missing")
        self._frontier.push(computed)
        while self._ahead and self._ahead[0][0] <= seq:
            size, ts_us, text = self._ahead.popleft()
            self._compare(size, ts_us, text)
            if not self._ahead:
                self._read_ahead(size + 1)

    def _read_ahead(self, size: int) -> None:
        # WHY: some at a time; a reading that goes on for the whole report would keep the log's file from being tidied.
        if self._connection is None:
            return
        sql = "SELECT size, ts_us, note FROM checkpoint WHERE size BETWEEN ? AND ? ORDER BY size LIMIT ?"
        self._ahead.extend(self._connection.execute(sql, (size, self._last, _AHEAD)).fetchall())

    def _compare(self, size: int, ts_us: int, text: str) -> None:
        if size != self._frontier.size:
            return
        self._checked += 1
        try:
            note = parse_note(text)
        except VerificationError as error:
            self._find(f"checkpoint of {size} records: {error}")
            return
        if note.size != size or note.root != self._frontier.root():
            self._find(f"checkpoint of {size} records: the tree of the records has another root")
        if self._signatures < MAX_SIGNATURES:
            self._signatures += 1
            if not self._keys.signed(note):
                self._find(f"checkpoint of {size} records: it is not signed by a key of the log")
        at = timestamp(datetime.fromtimestamp(ts_us / 1e6, UTC))
        self._newest = {"size": size, "root": note.root.hex(), "at": at, "note": text}

    def _find(self, what: str) -> None:
        self._wrong += 1
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(what)

    def as_json(self) -> dict[str, Json]:
        """Give the result."""
        return {
            "ok": not self._wrong,
            "first_seq": self._first,
            "last_seq": self._frontier.size,
            "root": self._frontier.root().hex(),
            "checkpoints": self._checked,
            "signatures": self._signatures,
            "key": str(self._keys.reigns[-1].key),
            "newest": self._newest,
            "wrong": self._wrong,
            "findings": list(self._findings),
        }
