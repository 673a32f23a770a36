"""Files that verbs write for people: whole or not at all, and only for their owner."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Put `text` into `path`, whole or not at all."""
    write_chunks(path, [text.encode()])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> int:
    """Put `chunks` into `path` and give their number; if one of them fails, `path` stays as it was.

    SECURITY: what is exported names people; the file is readable by its owner alone.
    """
    count = 0
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return count
