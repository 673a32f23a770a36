"""What the gateway must remember over a restart: growing numbers and the last policy in force."""

import sqlite3
from dataclasses import dataclass

from gateway.registry.store import next_number, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPolicy:
    """The policy that was in force when something was last put in force."""

    version: str
    generation: int


class Memory:
    """Small facts that outlive the process."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def next_generation(self) -> int:
        """Give the next number of a policy set; it never repeats."""
        with transaction(self._connection) as connection:
            return next_number(connection, "policy")

    def last_policy(self) -> LastPolicy | None:
        """Give what was in force last."""
        row = self._connection.execute("SELECT version, generation FROM last_policy").fetchone()
        return None if row is None else LastPolicy(version=row[0], generation=row[1])

    def note_policy(self, version: str, generation: int) -> None:
        """Remember what is in force."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM last_policy")
            connection.execute("INSERT INTO last_policy(version, generation) VALUES(?, ?)", (version, generation))
