"""Whether the database that is opened is the log that its checkpoints speak of."""

from pathlib import Path

from gateway.audit import book as book_file
from gateway.audit import place
from gateway.audit.book import CheckpointBook
from gateway.audit.checkpoint import LogKey, parse_note
from gateway.audit.store import Store
from gateway.errors import VerificationError


def check_presence(folder: Path, key: LogKey) -> None:
    """Refuse to begin a new log where an old one was.

    Raises:
        VerificationError: the checkpoints speak of a log that is not there.

    """
    database = folder / place.FILE
    if database.exists() and database.stat().st_size > 0:
        return
    told = CheckpointBook(folder).last(key.verifier.name, key.verifier.signed)
    if told is not None and told.size > 0:
        raise VerificationError(
            f"`{database}` is gone, and a checkpoint speaks of {told.size} records in it",
            way_out=f"put it back, or move {book_file.FILE} aside to begin a new log",
        )


def check_history(store: Store, book: CheckpointBook) -> tuple[int, str] | None:
    """Compare the files with one another and with the newest checkpoints, their own and the book's.

    Gives the newest with its size.

    Raises:
        VerificationError: it is another log, or was changed.

    """
    # WHY: a rotation of the key may be in the database and not in the book, which then ends with the old key's note.
    keys = store.keys()
    store.check_segments(keys.signed)
    stored = store.last_checkpoint()
    told = book.last(store.key.verifier.name, keys.signed)
    signed: tuple[int, str] | None = None
    notes = [] if stored is None else [parse_note(stored[1])]
    for note in notes if told is None else [*notes, told]:
        if not keys.signed(note) or _root_at(store, note.size) != note.root:
            raise VerificationError(
                f"audit.db is not the log that a checkpoint of {note.size} records speaks of",
                way_out=f"restore it, or move audit.db and {book_file.FILE} aside to begin a new log",
            )
        if signed is None or note.size >= signed[0]:
            signed = (note.size, note.text)
    return signed


def _root_at(store: Store, size: int) -> bytes | None:
    try:
        return store.root_at(size) if store.head.size >= size else None
    except LookupError:
        return None
