"""Backups of the log: a copy that opens and verifies, made while the gateway goes on writing."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.audit import book, place
from gateway.audit.query import LogReader
from gateway.audit.segment import FOLDER
from gateway.errors import ConflictError, LogUnavailableError, NotFoundError

_PUBLIC_KEYS, _PRIVATE_KEY = "keys/*.pub", Path("keys", "log.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds."""

    folder: Path
    size: int  # how many records the log had
    files: tuple[str, ...]
    private_key: bool

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {
            "folder": str(self.folder),
            "size": self.size,
            "files": list(self.files),
            "private_key": self.private_key,
        }


def back_up(folder: Path, target: Path, *, with_private_key: bool = False) -> Backup:
    """Copy the log in `folder` into the new folder `target`, readable by its owner alone.

    The copy is of one moment; the gateway may write meanwhile. Without `with_private_key` whoever gets hold of the
    backup cannot sign in the log's name, and whoever restores it needs the key from elsewhere.

    Raises:
        ConflictError: the target is there already.
        NotFoundError: there is no log.
        LogUnavailableError: the log cannot be read, or the target not be written.

    """
    if not (folder / place.FILE).is_file():
        raise NotFoundError(f"there is no decision log in `{folder}`")
    try:
        target.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ConflictError(f"`{target}` is there already", way_out="name a folder that is not there yet") from None
    except OSError as error:
        raise LogUnavailableError(f"`{target}` cannot be made: {error.strerror}") from error
    try:
        return _copy(folder, target, with_private_key=with_private_key)
    except (OSError, sqlite3.Error) as error:
        raise LogUnavailableError(f"the log cannot be copied to `{target}`: {error}") from error


def _copy(folder: Path, target: Path, *, with_private_key: bool) -> Backup:
    # INVARIANT: the checkpoints first; a copy of the records that lacks what a checkpoint speaks of would be refused.
    _copy_file(folder, target, Path(book.FILE), missing_ok=True)
    with LogReader(folder).whole() as whole:
        copied = target / place.FILE
        os.close(os.open(copied, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        whole.live.execute(
            "PRAGMA query_only = OFF"
        )  # WHY: it forbids writing the copy, too; the file is open read-only
        whole.live.execute("VACUUM INTO ?", (str(copied),))
        with closing(sqlite3.connect(f"{copied.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            newest: int | None = connection.execute("SELECT max(seq) FROM record").fetchone()[0]
        _sync(copied)
        kept = [each for each in whole.segments if each.kept]
        size = newest or (whole.segments[-1].last if whole.segments else 0)
    for segment in kept:
        _copy_file(folder, target, Path(FOLDER, segment.file))
    for public in sorted(folder.glob(_PUBLIC_KEYS)):
        _copy_file(folder, target, public.relative_to(folder))
    if with_private_key:
        _copy_file(folder, target, _PRIVATE_KEY)
    files = sorted(str(each.relative_to(target)) for each in target.rglob("*") if each.is_file())
    return Backup(folder=target, size=size, files=tuple(files), private_key=with_private_key)


def _copy_file(folder: Path, target: Path, name: Path, *, missing_ok: bool = False) -> None:
    if missing_ok and not (folder / name).exists():
        return
    (target / name).parent.mkdir(mode=0o700, exist_ok=True)
    # SECURITY: made private before anything is in it.
    descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with (folder / name).open("rb") as source, open(descriptor, "wb") as copy:  # noqa: PTH123 # a descriptor made private
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
