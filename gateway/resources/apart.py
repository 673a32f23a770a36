"""Starting a program apart from the host, and ending it with all that it started."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.request import Json
from gateway.errors import DeniedError, HostCannotKeepError
from gateway.resources.program import NOT_A_PROGRAM, NOT_RUN

_RUNNER = Path(__file__).with_name("program.py")
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """How a program ended; one that died of signal n has status 128 + n."""

    exit_status: int | None  # None: it was ended, for it took too long or printed too much
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


async def run_apart(order: dict[str, Json], program: int, timeout_s: float, max_bytes: int) -> ProgramResult:
    """Run the program open at descriptor `program` as `order` says.

    Raises:
        DeniedError: the host does not take it for a program.
        HostCannotKeepError: the host cannot keep it apart; it did not run.

    """
    with _report() as (reading, writing):
        text = json.dumps(order | {"program": program}, ensure_ascii=False)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", str(_RUNNER), text, str(writing)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={},
            cwd="/",
            start_new_session=True,
            pass_fds=(program, writing),
        )
        result = await _watch(process, timeout_s, max_bytes)
        with suppress(BlockingIOError):
            _refuse_if_not_run(result, os.read(reading, 1000).decode(errors="replace"))
    return result


def _refuse_if_not_run(result: ProgramResult, why: str) -> None:
    if result.exit_status != NOT_RUN or not why:
        return
    if why.startswith(NOT_A_PROGRAM):
        raise DeniedError(f"the host does not take it for a program: {why.removeprefix(NOT_A_PROGRAM).lower()}")
    raise HostCannotKeepError(f"the program did not run, for it cannot be kept apart: {why}")


async def _watch(process: Process, timeout_s: float, max_bytes: int) -> ProgramResult:
    taken = (bytearray(), bytearray())
    timed_out = False
    try:
        async with asyncio.timeout(timeout_s):
            over = await asyncio.gather(
                *(_take(stream, into, max_bytes, lambda: _kill(process)) for stream, into in _pairs(process, taken))
            )
            await process.wait()
    except TimeoutError:
        timed_out, over = True, []
    finally:
        _kill(process)
        # WHY: a pipe that is not read to its end is never closed, and the wait may be for its closing.
        await asyncio.gather(*(_drain(stream) for stream, _ in _pairs(process, taken)))
        await process.wait()
    return ProgramResult(
        exit_status=None if timed_out or any(over) else process.returncode,
        stdout=bytes(taken[0]),
        stderr=bytes(taken[1]),
        timed_out=timed_out,
        truncated=any(over),
    )


def _pairs(process: Process, taken: tuple[bytearray, bytearray]) -> Iterator[tuple[asyncio.StreamReader, bytearray]]:
    for stream, into in zip((process.stdout, process.stderr), taken, strict=True):
        if stream is not None:
            yield stream, into


async def _take(stream: asyncio.StreamReader, into: bytearray, max_bytes: int, end: Callable[[], None]) -> bool:
    while part := await stream.read(_CHUNK):
        into += part
        if len(into) > max_bytes:
            del into[max_bytes:]
            end()
            await _drain(stream)
            return True
    return False


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(_CHUNK):
        pass


def _kill(process: Process) -> None:
    if process.returncode is None:
        # The group holds process 1 of the program's own world, and the kernel ends that world with it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _report() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)
