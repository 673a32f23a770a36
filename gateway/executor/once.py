"""One call in a cell of its own, which is gone when the call is over."""

import asyncio
import contextlib
import signal
import time

from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.executor.broker import Conversation, Said
from gateway.executor.printed import Printed
from gateway.executor.told import Told
from sandbox.launcher import Cell, Ending

_REAP_S = 5.0
_LAST_BREATH_S = 0.5
_READ_BYTES = 64 << 10


def unblock(cell: Cell) -> Cell:
    """Make a cell's sockets fit for the event loop."""
    for sock in (cell.channel, cell.output, cell.status):
        sock.settimeout(0)
    return cell


async def run_once(cell: Cell, conversation: Conversation) -> RunResult:
    """Give the result of the call; no process of the cell is left when this returns."""
    started = time.monotonic()
    printed = Printed(cell.output)
    told = Told(cell, conversation.tell_refused)
    try:
        said = await conversation.run()
        wall_s = time.monotonic() - started
        left = said.outcome is Outcome.UNKNOWN
        if not left:
            cell.kill()
        await conversation.end_relay()
        told.close()
        ending = await _reap(cell, left=left)
        told.take()
        await conversation.end_telling()
        stdout = printed.take()
    finally:
        # INVARIANT: a call that is given up leaves nothing running.
        cell.kill()
        told.close()
        printed.close()
        await conversation.end_relay()
    outcome, error = said.outcome, said.error
    if outcome is Outcome.UNKNOWN:
        outcome, error = how_it_died(ending)
    if conversation.kill_reason is not None and outcome is not Outcome.RETURNED:
        outcome, error = Outcome.KILLED, conversation.kill_reason
    usage = Usage(
        wall_s=wall_s,
        cpu_s=ending.cpu_s,
        memory_peak_bytes=ending.memory_peak_bytes,
        disk_bytes=cell.disk.used_bytes(),
    )
    return result_of(Said(outcome, said.output, error), conversation, usage, stdout)


def result_of(said: Said, conversation: Conversation, usage: Usage, stdout: str) -> RunResult:
    """Put together what is known of a call."""
    return RunResult(
        outcome=said.outcome,
        output=said.output if said.outcome is Outcome.RETURNED else None,
        error=said.error,
        usage=usage,
        stdout=stdout,
        logs=tuple(conversation.logs),
        asks=tuple(conversation.notes),
        isolation=conversation.isolation,
        broke_protocol=conversation.broke_protocol,
        from_outside=conversation.kill_reason is not None and said.outcome is not Outcome.RETURNED,
    )


async def _reap(cell: Cell, *, left: bool) -> Ending:
    if left:
        # WHY: it closed its end of the channel; how it ended by itself tells more than our kill would.
        with contextlib.suppress(TimeoutError):
            return await until_gone(cell, _LAST_BREATH_S)
    cell.kill()
    try:
        return await until_gone(cell, _REAP_S)
    except TimeoutError:
        # WHY: what the call answered stands; the kernel ends what was killed, sooner or later.
        return Ending(signal=int(signal.SIGKILL))


async def until_gone(cell: Cell, timeout_s: float) -> Ending:
    """Wait until everything in the cell is gone.

    Raises:
        TimeoutError: it is not gone yet.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        ending = cell.ending
        while ending is None:
            try:
                data = await loop.sock_recv(cell.status, _READ_BYTES)
            except ConnectionError:
                data = b""
            ending = cell.hear(data)
    return ending


def how_it_died(ending: Ending) -> tuple[Outcome, str]:
    """Tell how a cell ended that gave no result."""
    if ending.oom:
        return Outcome.KILLED, "it used more memory than it may"
    if ending.signal is not None:
        return Outcome.KILLED, f"it was ended by signal {_signal_name(ending.signal)}"
    return Outcome.FAILED, f"it ended without a result (exit status {ending.exit})"


def _signal_name(number: int) -> str:
    # WHY: a plugin may end itself by any signal, and most real-time ones have no name.
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)
