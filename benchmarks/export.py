"""What each format of an export costs: rows for each second of processor time, peak memory, bytes for each row.

usage: python -m benchmarks.export [ROWS]
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.log_files import START, open_log, write
from gateway.audit.export import Export, ExportRequest, begin_export
from gateway.audit.formats.known import FORMATS
from gateway.audit.formats.redaction import FIELDS
from gateway.audit.formats.written import Manner, Written

ROWS = 300_000
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
        begun = json.dumps(begin(folder))
        for case in CASES:
            ran = subprocess.run(
                [sys.executable, "-m", "benchmarks.export", "step", str(folder), begun, *case],
                check=True,
                capture_output=True,
                text=True,
            )
            told = json.loads(ran.stdout)
            label = " ".join(each for each in case if each)
            print(
                f"{label:24}{told['rows'] / told['cpu_s']:12,.0f}{told['rows'] / told['wall_s']:10,.0f}"
                f"{told['before_mib']:12.0f}{told['peak_mib']:10.0f}{told['bytes'] / told['rows']:11.0f}",
                flush=True,
            )


def begin(folder: Path) -> dict[str, Any]:
    """Record an export, and give what it takes to read it in another process, which then holds nothing else."""

    async def story() -> Export:
        log = open_log(folder)
        request = ExportRequest(event_id=f"audit-{uuid.uuid4()}", at=START, user_id=None)
        begun = await begin_export(log, folder, request)
        await log.close()
        return begun

    begun = asyncio.run(story())
    return {"seq": begun.seq, "note": begun.note, "first": begun.first}


def step(folder: Path, begun: str, form: str, compress: str, redacted: str) -> None:
    """Export once, into a file, and print what it cost."""
    manner = Manner(
        form=FORMATS[form],
        compress=compress or None,
        redacted=frozenset(FIELDS) if redacted else frozenset(),
    )
    written = Written(Export(folder=folder, **json.loads(begun)), manner)
    before_mib = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryFile(dir=folder.parent) as out:
        for chunk in written.chunks():
            out.write(chunk)
    told = {
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
    if sys.argv[1:2] == ["step"]:
        step(Path(sys.argv[2]), *sys.argv[3:7])
    else:
        main()
