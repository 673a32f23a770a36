"""Files that verbs write for people: whole or not at all, and only for their owner."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.errors import UnavailableError, UsageError


def read_json(path: Path) -> Any:  # noqa: ANN401 (any JSON value)
    """Read a file as JSON.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"`{path}` is not JSON: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Put `text` into `path`, whole or not at all."""
    write_chunks(path, [text.encode()])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> int:
    """Put `chunks` into `path` and give their number; if one of them fails, `path` stays as it was.

    Raises:
        UsageError: there can be no such file.
        UnavailableError: it could not be written.

    SECURITY: what is exported names people; the file is readable by its owner alone.
    """
    count = 0
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(
            f"`{path}` cannot be written: {error.strerror}", way_out="name a file in a folder that you may write to"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except OSError as error:
        Path(fresh).unlink(missing_ok=True)
        raise UnavailableError(
            f"`{path}` could not be written: {error.strerror}", way_out="make room, or name another file"
        ) from error
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return count
