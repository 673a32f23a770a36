"""Exports on the terminal: how far they are, where they go, whether they are true."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.output import print_stream
from gateway.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from gateway.audit.verification import Verification
    from gateway.client import Client
    from gateway.client.export import Progress

_IN_BYTES = frozenset({"parquet"})


def print_export(client: "Client", params: Mapping[str, Any]) -> None:
    """Write an export to stdout."""
    from gateway.client.export import ROUTE

    if sys.stdout.isatty() and (params["format"] in _IN_BYTES or params["compress"] is not None):
        raise UsageError("this is nothing for a terminal", way_out="name a file with -o FILE")
    with client.stream(ROUTE, params=params) as streamed:
        print_stream(streamed.chunks)


def shown(form: str, compress: str | None) -> "Progress":
    """Give what shows on a terminal's stderr how far an export is; elsewhere nothing is shown."""
    in_lines = compress is None and form not in _IN_BYTES

    def show(chunks: Iterable[bytes], rows: int) -> Iterator[bytes]:
        if not sys.stderr.isatty():
            yield from chunks
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        count = MofNCompleteColumn() if in_lines else DownloadColumn()
        console = Console(stderr=True)
        with Progress(BarColumn(), count, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task("export", total=rows if in_lines else None)
            for chunk in chunks:
                yield chunk
                bar.advance(task, chunk.count(b"\n") if in_lines else len(chunk))

    return show


def verify_export(file: Path, *, key: str | None, since: str | None, leaves: Path | None, jobs: int) -> "Verification":
    """Check a file: JSON Lines by its lines, and whatever has a manifest beside it by that too.

    Raises:
        VerificationError: the key, the older checkpoint or the manifest is none, or the file cannot be read.

    """
    from gateway.audit.verify import verify_file
    from gateway.audit.verify_manifest import read_manifest, verify_by_manifest
    from gateway.client.export import manifest_of

    beside = manifest_of(file)
    if not file.is_file():
        raise VerificationError(f"`{file}` cannot be read: it is not a file")
    if not beside.exists():
        return verify_file(file, key=key, since=since, leaves=leaves, jobs=jobs)
    manifest = read_manifest(beside)
    by_manifest = verify_by_manifest(file, manifest, key=key, since=since)
    if manifest["format"] != "jsonl" or manifest.get("compress") is not None:
        return by_manifest
    result = verify_file(file, key=key, since=since, leaves=leaves, jobs=jobs)
    # WHY: a manifest that is another export's, or was changed, is worth knowing where the lines are good themselves.
    for finding in by_manifest.findings:
        result.add(None, f"manifest: {finding.message}")
    return result
