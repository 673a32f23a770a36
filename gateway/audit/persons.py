"""Pseudonyms: a random name for each user, by which acts stay linkable when the user's own name is erased."""

import secrets
import sqlite3
import threading
from pathlib import Path

from gateway.audit.canonical import tidy_text
from gateway.errors import LogUnavailableError

PSEUDONYM_BYTES = 16
_MAX_KNOWN = 65_536
_FIND = "SELECT pseudonym FROM person WHERE user = ?"


class Persons:
    """The pseudonyms in table `person`, as far as they were asked for.

    A new one is handed out at once and kept in `unwritten` until it is durable with the first record that bears it.
    One thread asks; the one that commits may tell of what is `written` meanwhile, and open the database anew.
    """

    def __init__(self, database: Path) -> None:
        """Open `database` for reading, beside the connection that writes it.

        Raises:
            sqlite3.Error: it cannot be read.

        """
        self._uri = f"{database.resolve().as_uri()}?mode=ro"
        self._known: dict[str, str] = {}
        self._fresh: dict[str, str] = {}
        self._asking = threading.Lock()
        self._connection = self._connect()

    def open(self) -> None:
        """Open the database, anew if another lies at its path by now; what is known stays."""
        with self._asking:
            self._connection.close()
            self._connection = self._connect()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def of(self, user: str) -> str:
        """Give the pseudonym of a user, 32 hex digits; a new one if there is none.

        Raises:
            LogUnavailableError: it cannot be looked up.

        """
        # INVARIANT: what becomes written is known before it stops being fresh, so it is found in one of the two.
        return self._fresh.get(user) or self._known.get(user) or self._learn(tidy_text(user))

    def _learn(self, user: str) -> str:
        if fresh := self._fresh.get(user):
            return fresh
        try:
            with self._asking:
                row = self._connection.execute(_FIND, (user,)).fetchone()
        except sqlite3.Error as error:
            raise LogUnavailableError(f"the decision log cannot be read: {error}", retry_after_s=1) from error
        if row is None:
            return self._fresh.setdefault(user, secrets.token_hex(PSEUDONYM_BYTES))
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        pseudonym: str = row[0]
        return self._known.setdefault(user, pseudonym)

    def unwritten(self) -> list[tuple[str, str]]:
        """Give each user and pseudonym that the database does not have for certain."""
        return list(self._fresh.items())

    def written(self, rows: list[tuple[str, str]]) -> None:
        """Take note that `rows` are durable."""
        self._known.update(rows)
        for user, _ in rows:
            self._fresh.pop(user, None)

    def known(self, user: str) -> frozenset[str]:
        """Give the pseudonyms that were handed out for a user and may stand in records not yet written."""
        return frozenset(filter(None, (self._fresh.get(user), self._known.get(user))))

    def forget(self, user: str) -> None:
        """Know nothing of a user whose row is erased; a later record gets a pseudonym of its own."""
        self._known.pop(user, None)
        self._fresh.pop(user, None)
