"""Kills a process, for good, right before one of its durable steps.

A step is a file made, opened for writing, renamed, linked, removed, given other rights or synced, a folder made, and a
statement of SQLite that can change its file.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from typing import Any

_EVENTS = frozenset({"os.rename", "os.remove", "os.link", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate"})
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_READS = ("SELECT", "WITH", "EXPLAIN")
_PRAGMAS = ("PRAGMA WAL_CHECKPOINT",)


class Death:
    """Comes before step number `at` behind the call of `near`; 0 for never."""

    def __init__(self, at: int) -> None:
        self._at, self._near, self.steps = at, False, 0
        sys.addaudithook(self._audit)
        for name in ("fsync", "fdatasync", "write", "pwrite"):
            setattr(os, name, self._before(getattr(os, name)))
        connect = sqlite3.connect
        death = self

        class Mortal(sqlite3.Connection):
            def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:  # noqa: ANN401 (SQLite's)
                death.of_statement(sql)
                return super().execute(sql, *given)

            def executemany(self, sql: str, *given: Any) -> sqlite3.Cursor:  # noqa: ANN401 (SQLite's)
                death.of_statement(sql)
                return super().executemany(sql, *given)

            def commit(self) -> None:
                death.step()
                super().commit()

        setattr(sqlite3, "connect", lambda *given, **more: connect(*given, **{"factory": Mortal, **more}))  # noqa: B010 (it is meant to be another)

    def near(self) -> None:
        """Begin to count."""
        self._near = True

    def step(self) -> None:
        """Count a step, and die before the one that was chosen."""
        if self._near:
            self.steps += 1
            if self.steps == self._at:
                os.kill(os.getpid(), signal.SIGKILL)

    def of_statement(self, sql: str) -> None:
        """Count a statement that can write."""
        begun = " ".join(sql.split()).upper()
        if not begun.startswith(_READS) and (not begun.startswith("PRAGMA") or begun.startswith(_PRAGMAS)):
            self.step()

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and isinstance(given[2], int) and given[2] & _WRITES):
            self.step()

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:  # noqa: ANN401 (whatever the real one takes and gives)
            self.step()
            return real(*given)

        return run


def die_everywhere(live: Callable[[int, Death], None], every: int) -> Iterator[tuple[int, bool]]:
    """Fork a process for every so many steps that `live(at, death)` takes; give the step, and whether it died there."""
    at = 1
    while True:
        child = os.fork()
        if child == 0:
            try:
                live(at, Death(at))
                os._exit(0)
            except BaseException:  # noqa: BLE001 (a fork must never go on as its parent)
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not died and status != 0:
            raise SystemExit(f"at step {at}: it ended with {os.waitstatus_to_exitcode(status)}")
        yield at, died
        if not died:
            return
        at += every
