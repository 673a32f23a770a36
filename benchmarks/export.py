"""What each format of an export costs: rows for each second of processor time, peak memory, bytes for each row.

usage: python -m benchmarks.export [ROWS]
       python -m benchmarks.export grow ROWS...      the same log at each of these lengths: memory must not grow
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from benchmarks.log_files import START, open_log, write
from gateway.audit.export import EVERYTHING, Export, ExportRequest, begin_export
from gateway.audit.formats.known import FORMATS
from gateway.audit.formats.redaction import FIELDS
from gateway.audit.formats.written import Manner, Written
from gateway.audit.wanted import Filter

ROWS = 300_000
GROWN = [("jsonl", "", "", ""), ("jsonl", "", "", "plugin-7"), ("csv", "zstd", "redacted", "")]
CASES = [
    *((form, "", "") for form in FORMATS),
    ("jsonl", "gzip", ""),
    ("jsonl", "zstd", ""),
    ("jsonl", "", "redacted"),
    ("csv", "zstd", "redacted"),
]


def main() -> None:
    """Print a row for each format."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    print(f"{rows} decisions; each format in a process of its own")
    print(f"{'':24}{'rows/CPU s':>12}{'rows/s':>10}{'MiB before':>12}{'at peak':>10}{'bytes/row':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "data")
        write(folder, rows)
        begun = spell(begin(folder))
        for case in CASES:
            run("step", str(folder), begun, *case)


def grow(sizes: list[int]) -> None:
    """Print a row for each length of the log and each way of exporting it, the beginning of the export included."""
    print(f"{'':34}{'rows/CPU s':>12}{'rows/s':>10}{'MiB before':>12}{'at peak':>10}{'bytes/row':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder, written = Path(name, "data"), 0
        for size in sizes:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.export", "write", folder, f"{written}", f"{size}"], check=True
            )
            written = size
            for case in GROWN:
                run("whole", str(folder), f"{size:,}", *case)


def run(*step: str) -> None:
    """Have a process of its own do a step, and print what it told."""
    ran = subprocess.run([sys.executable, "-m", "benchmarks.export", *step], check=True, capture_output=True, text=True)
    told = json.loads(ran.stdout)
    print(
        f"{told['label']:34}{told['rows'] / told['cpu_s']:12,.0f}{told['rows'] / told['wall_s']:10,.0f}"
        f"{told['before_mib']:12.0f}{told['peak_mib']:10.0f}{told['bytes'] / told['rows']:11.0f}",
        flush=True,
    )


def spell(begun: Export) -> str:
    """Give what another process takes to read an export that is begun."""
    return json.dumps({"seq": begun.seq, "note": begun.note, "first": begun.first})


def begin(folder: Path, wanted: Filter = EVERYTHING) -> Export:
    """Record an export."""

    async def story() -> Export:
        log = open_log(folder)
        request = ExportRequest(event_id=f"audit-{uuid.uuid4()}", at=START, user_id=None, wanted=wanted)
        begun = await begin_export(log, folder, request)
        await log.close()
        return begun

    return asyncio.run(story())


def step(folder: Path, begun: str, *manner: str) -> None:
    """Write an export that another process began, so that this one holds nothing else."""
    before_mib = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    tell(Export(folder=folder, **json.loads(begun)), manner, (before_mib, wall, cpu), label="")


def whole(folder: Path, label: str, *manner: str) -> None:
    """Begin an export and write it."""
    before_mib = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    plugin = manner[-1] or None
    begun = begin(folder, Filter(plugin=plugin))
    tell(begun, manner[:-1], (before_mib, wall, cpu), label=f"{label} {plugin or ''} ")


def tell(begun: Export, manner: Sequence[str], since: tuple[float, float, float], *, label: str) -> None:
    """Export into a file, and print what it cost."""
    form, compress, redacted = manner
    written = Written(
        begun,
        Manner(form=FORMATS[form], compress=compress or None, redacted=frozenset(FIELDS) if redacted else frozenset()),
    )
    before_mib, wall, cpu = since
    with tempfile.TemporaryFile(dir=begun.folder.parent) as out:
        for chunk in written.chunks():
            out.write(chunk)
    told = {
        "label": label + " ".join(each for each in manner if each),
        "rows": written.tally.rows,
        "bytes": written.tally.size,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "before_mib": before_mib,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(told))


def peak_mib() -> float:
    """Give the most memory that this process held; what counts for `getrusage` is its parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["step", folder, *more]:
            step(Path(folder), *more)
        case ["whole", folder, *more]:
            whole(Path(folder), *more)
        case ["write", folder, first, last]:
            write(Path(folder), int(last), begin=int(first))
        case ["grow", *sizes]:
            grow([int(each) for each in sizes])
        case _:
            main()
