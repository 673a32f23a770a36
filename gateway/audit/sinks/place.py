"""How far a sink is, and what it put aside: kept in data/sinks, whole at any moment.

What is kept are numbers of records, never their values: an erased value is in no queue, for it is read again from the
log before each attempt.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from gateway.domain.request import Json
from gateway.errors import LogUnavailableError, NotFoundError

FOLDER = "sinks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a sink is."""

    position: int  # the last record that was sent, put aside or not wanted
    sent: int = 0
    put_aside: int = 0
    missed: int = 0  # records that were dropped from the log before this sink took them
    failures: int = 0  # in a row
    last_error: str | None = None
    last_error_at: str | None = None

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A batch that was put aside, by the numbers of its records."""

    first_seq: int
    last_seq: int
    records: int
    attempts: int
    error: str
    at: str


_position = msgspec.json.Decoder(Position)
_aside = msgspec.json.Decoder(Aside)


class Place:
    """The files of one sink; written by the process that delivers, read by others."""

    def __init__(self, data: Path, name: str) -> None:
        self._folder = data / FOLDER
        self._path = self._folder / f"{name}.json"
        self._aside = self._folder / f"{name}.dead.jsonl"
        self._again = self._folder / f"{name}.again.jsonl"

    def read(self) -> Position | None:
        """Give how far it is, None if it never began.

        Raises:
            LogUnavailableError: its file cannot be read.

        """
        try:
            return _position.decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise LogUnavailableError(f"`{self._path}` cannot be read: {error}") from error

    def write(self, position: Position) -> None:
        """Keep how far it is; returns once that would survive a power cut."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, json.dumps(position.as_json()).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(self._path)

    def put_aside(self, *batches: Aside) -> None:
        """Keep which batches could not be delivered."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, b"".join(json.dumps(asdict(each)).encode() + b"\n" for each in batches))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def send_again(self) -> None:
        """Have what was put aside delivered once more.

        Raises:
            NotFoundError: nothing was.

        """
        if self._again.exists():
            return
        try:
            self._aside.rename(self._again)
        except FileNotFoundError:
            raise NotFoundError("nothing was put aside") from None

    def again(self) -> list[Aside]:
        """Give what is to be delivered once more."""
        try:
            return list(_read(self._again))
        except FileNotFoundError:
            return []

    def done_again(self) -> None:
        """Forget what was delivered once more."""
        self._again.unlink(missing_ok=True)


def _read(path: Path) -> Iterator[Aside]:
    for line in path.read_bytes().splitlines():
        try:
            yield _aside.decode(line)
        except msgspec.MsgspecError:
            continue  # WHY: the end of a line that a crash cut; its batch is delivered again, for its position stayed


def failed(position: Position, error: str, at: str) -> Position:
    """Give the position after a failure."""
    return replace(position, failures=position.failures + 1, last_error=error, last_error_at=at)
