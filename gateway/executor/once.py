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


class Once:
    """One call in a cell that serves no other."""

    def __init__(self, cell: Cell, conversation: Conversation) -> None:
        self._cell = cell
        self._conversation = conversation
        self._printed = Printed(cell.output)
        self._told = Told(cell, conversation.tell_refused)
        self.is_going = False  # it was answered, and something of its cell may be left: `until_gone` waits for that

    async def run(self, *, waits: bool = True) -> RunResult:
        """Give the result of the call; every process of the cell is killed when this returns.

        Nothing of them is left either, if this `waits`, and wherever the result depends on their end.
        """
        started = time.monotonic()
        try:
            said = await self._conversation.run()
            wall_s = time.monotonic() - started
            used = None if waits or not self._is_answered(said) else self._cell.meter.total()
            if said.outcome is not Outcome.UNKNOWN:
                self._cell.kill()
            # INVARIANT: what it tried is on record before it is answered, not only when its cell is gone.
            self._told.hear()
            if used is not None:
                await self._conversation.end_telling()
                self.is_going = True
                return self._result(said, wall_s, used)
            return await self._ended(said, wall_s)
        finally:
            # INVARIANT: a call that is given up leaves nothing running.
            self._cell.kill()
            if not self.is_going:
                self._let_go()
                await self._conversation.end_relay()

    async def until_gone(self) -> None:
        """Wait until nothing of a call's cell is left, and all that was told of it is recorded."""
        try:
            self._told.close()
            await _reap(self._cell, left=False)
            self._told.take()
            await self._conversation.end_telling()
        finally:
            self._let_go()

    def _is_answered(self, said: Said) -> bool:
        return said.outcome in {Outcome.RETURNED, Outcome.FAILED} and self._conversation.kill_reason is None

    async def _ended(self, said: Said, wall_s: float) -> RunResult:
        await self._conversation.end_relay()
        self._told.close()
        ending = await _reap(self._cell, left=said.outcome is Outcome.UNKNOWN)
        self._told.take()
        await self._conversation.end_telling()
        if said.outcome is Outcome.UNKNOWN:
            outcome, error = how_it_died(ending)
            said = Said(outcome, said.output, error)
        if self._conversation.kill_reason is not None and said.outcome is not Outcome.RETURNED:
            said = Said(Outcome.KILLED, said.output, self._conversation.kill_reason)
        return self._result(said, wall_s, (ending.cpu_s, ending.memory_peak_bytes))

    def _result(self, said: Said, wall_s: float, used: tuple[float, int | None]) -> RunResult:
        cpu_s, memory_peak_bytes = used
        disk_bytes = self._cell.disk.used_bytes()
        usage = Usage(wall_s=wall_s, cpu_s=cpu_s, memory_peak_bytes=memory_peak_bytes, disk_bytes=disk_bytes)
        return result_of(said, self._conversation, usage, self._printed.take())

    def _let_go(self) -> None:
        self._told.close()
        self._printed.close()


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
