"""An export of the log as a file, with its manifest beside it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gateway.client.client import Client
from gateway.errors import ConflictError, UnavailableError

ROUTE = "/v1/audit/export"
Progress = Callable[[Iterable[bytes], int], Iterable[bytes]]  # takes the chunks and how many records there are


def manifest_of(file: Path) -> Path:
    """Give the path of a file's manifest."""
    return file.with_name(f"{file.name}.manifest.json")


def save_export(
    client: Client,
    file: Path,
    params: Mapping[str, Any],
    *,
    force: bool = False,
    progress: Progress = lambda chunks, _: chunks,
) -> dict[str, Any]:
    """Write an export to `file` and its manifest beside it, and give the manifest.

    Both are whole or not there at all, and readable by their owner alone.

    Raises:
        ConflictError: one of them is there already, and `force` was not given.
        UnavailableError: what came is not what the gateway sent.

    """
    beside = manifest_of(file)
    for path in (file, beside):
        if not force and os.path.lexists(path):
            raise _taken(path)
    with _fresh(file, force=force) as out, client.stream(ROUTE, params=params) as streamed:
        digest = hashlib.sha256()
        for chunk in progress(streamed.chunks, int(streamed.headers["hearthgate-rows"])):
            digest.update(chunk)
            out.write(chunk)
        event_id = streamed.headers["hearthgate-export"]
        manifest: dict[str, Any] = client.request("GET", f"/v1/audit/exports/{event_id}/manifest").body
        if digest.hexdigest() != manifest["sha256"]:
            raise UnavailableError("the export was changed on its way", way_out="try again")
    with _fresh(beside, force=force) as out:
        out.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n")
    return manifest


@contextmanager
def _fresh(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Give a file to write, which gets its name when it is whole.

    SECURITY: what is exported names people; the file is readable by its owner alone.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            fresh.replace(path)
        else:
            _link(fresh, path)
        _sync_folder(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _link(fresh: Path, path: Path) -> None:
    """Name a file, but never over another that came meanwhile."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        raise _taken(path) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _taken(path: Path) -> ConflictError:
    return ConflictError(f"`{path}` is there already", way_out="name another file, or --force to write over it")
