"""Load from wrk, pinned to a core of its own: one question after the other, over connections that stay open."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

HOW_TO_GET = "wrk is not installed: `apt-get install wrk` (Debian, Ubuntu), `brew install wrk`, github.com/wg/wrk"
_SCRIPT = """\
local asked, at = {}, 0
function init(args)
  for body in io.lines(args[1]) do
    asked[#asked + 1] = wrk.format("POST", args[2], HEADERS, body)
  end
end
function request()
  at = at % #asked + 1
  return asked[at]
end
function delay()
  return PAUSE_MS > 0 and math.random(0, 2 * PAUSE_MS) or 0
end
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format('\\n{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "failed": %d, "late": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed, summary.errors.timeout))
end
"""
_PAUSE = """\
function delay()
  return PAUSE_MS > 0 and math.random(0, 2 * PAUSE_MS) or 0
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk saw in one turn."""

    requests: int
    us: int
    p50_us: int
    p99_us: int
    failed: int
    late: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.us * 1e6


def installed() -> bool:
    """Tell whether wrk is there."""
    return shutil.which("wrk") is not None


def write_questions(
    folder: Path, bodies: Sequence[bytes], headers: Mapping[str, str], *, pause_ms: int = 0
) -> tuple[Path, Path]:
    """Write a script and the bodies it sends, each on a line; `pause_ms` lies on average before each request."""
    given = {"Content-Type": "application/json", **headers}
    table = ", ".join(f'["{name}"] = "{value}"' for name, value in given.items())
    script, lines = folder / "ask.lua", folder / "bodies"
    # WHY: no `delay` where there is no pause, for wrk asks for it before each request.
    made = _SCRIPT if pause_ms else _SCRIPT.replace(_PAUSE, "")
    script.write_text(f"local HEADERS = {{ {table} }}\nlocal PAUSE_MS = {pause_ms}\n{made}", encoding="utf-8")
    script.chmod(0o600)
    lines.write_bytes(b"\n".join(bodies) + b"\n")
    return script, lines


def load(url: str, questions: tuple[Path, Path], *, connections: int, seconds: int, core: int) -> Load:
    """Ask for some seconds."""
    script, lines = questions
    parts = urlsplit(url)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path
    found = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), base,  # noqa: S607 (looked for)
         "--", str(lines), path],
        check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    return Load(**json.loads(found.stdout.rpartition("\n{")[2].join(("{", ""))))
