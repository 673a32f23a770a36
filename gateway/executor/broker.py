"""The conversation with one cell: the call goes in, its asks come back here, one result comes out."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.domain.request import Json
from gateway.executor.egress import Passing, Relay
from sandbox.frames import Decoder, ProtocolError, encode
from sandbox.launcher import Cell, Ending

MAX_OUTSTANDING_ASKS = 16
MAX_REFUSALS = 16  # that a call's process may tell of
REFUSED = "refused"  # what is no ask: a try that the cell refused
_KEPT_OUTPUT_BYTES = 64 << 10
_KEPT_LOGS = 200
_READ_BYTES = 64 << 10
_REAP_S = 5.0
_LAST_BREATH_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a plugin gets for an ask; `note` is what the outcome's record keeps of it."""

    body: Mapping[str, Json]
    blob: bytes = b""
    note: Mapping[str, Json] = field(default_factory=dict)


Ask = Callable[[str, Mapping[str, Json], bytes], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call of a plugin's function, on behalf of a user."""

    execution_id: str
    plugin_id: str
    user_id: str
    function: str
    arguments: Mapping[str, Json]
    session_id: str | None
    timeout_s: float


class Conversation:
    """Talks with one cell until it is over, whatever the plugin does."""

    # SECURITY: who asks is known from which cell's socket it came; nothing identifying is read from a frame.

    def __init__(self, cell: Cell, job: Job, ask: Ask, passing: Passing | None = None) -> None:
        self._cell = cell
        self._job = job
        self._ask = ask
        self._passing = passing
        self._relay: Relay | None = None
        self._logs: list[str] = []
        self._notes: list[dict[str, Json]] = []
        self._printed = bytearray()
        self._refusals = 0
        self._told: set[asyncio.Task[None]] = set()
        self._kill_reason: str | None = None
        self._asks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    def kill(self, why: str) -> None:
        """End the whole cell now; the run's outcome is `killed`."""
        self._kill_reason = self._kill_reason or why
        self._cell.kill()
        if self._relay is not None:
            self._relay.stop()

    async def run(self) -> RunResult:
        """Give the result of the call; the cell is gone when this returns."""
        started = time.monotonic()
        draining = asyncio.create_task(self._drain_output())
        left = False
        self._open_relay()
        try:
            async with asyncio.timeout(self._job.timeout_s):
                outcome, output, error = await self._talk()
            left = outcome is Outcome.UNKNOWN
        except TimeoutError:
            outcome, output, error = Outcome.TIMED_OUT, None, f"it ran longer than {self._job.timeout_s:g} s"
        except ProtocolError as problem:
            outcome, output, error = Outcome.KILLED, None, f"it broke the protocol: {problem}"
        except BaseException:
            # INVARIANT: a call that is given up leaves no cell and no descriptor behind.
            draining.cancel()
            self._cell.close()
            raise
        finally:
            if not left:
                self._cell.kill()
            await self._end_asks()
        wall_s = time.monotonic() - started
        ending = await self._reap(left=left)
        await self._finish(draining)
        if outcome is Outcome.UNKNOWN:
            outcome, error = self._how_it_died(ending)
        if self._kill_reason is not None and outcome is not Outcome.RETURNED:
            outcome, error = Outcome.KILLED, self._kill_reason
        return RunResult(
            outcome=outcome,
            output=output,
            error=error,
            usage=Usage(
                wall_s=wall_s,
                cpu_s=ending.cpu_s,
                memory_peak_bytes=ending.memory_peak_bytes,
                disk_bytes=self._cell.disk.used_bytes(),
            ),
            stdout=self._printed.decode("utf-8", "replace"),
            logs=tuple(self._logs),
            asks=tuple(self._notes),
        )

    def _open_relay(self) -> None:
        if self._cell.door is not None and self._passing is not None and self._kill_reason is None:
            self._relay = Relay(self._cell.door, self._passing, self._keep_note)

    async def _end_asks(self) -> None:
        for task in self._asks:
            task.cancel()
        # WHY: not cancelled, for what was refused is recorded, also where the call ended by it.
        await asyncio.gather(*self._asks, *self._told, return_exceptions=True)
        if self._relay is not None:
            await (self._relay.finish() if self._kill_reason is None else self._relay.close())

    async def _talk(self) -> tuple[Outcome, Json, str | None]:
        reader, self._writer = await asyncio.open_connection(sock=self._cell.channel)
        try:
            await self._send(
                {
                    "t": "call",
                    "function": self._job.function,
                    "kwargs": dict(self._job.arguments),
                    "user_id": self._job.user_id,
                    "session_id": self._job.session_id,
                    "deadline_s": self._job.timeout_s,
                    "tell_refusals": True,
                }
            )
            decoder = Decoder()
            while data := await reader.read(_READ_BYTES):
                if self._kill_reason is not None:
                    break  # WHY: what a cell says while it is ended, as when its connections are cut, is no result
                for header, blob in decoder.feed(data):
                    match header.get("t"):
                        case "result":
                            return Outcome.RETURNED, cast("Json", header.get("value")), None
                        case "error":
                            return Outcome.FAILED, None, _sentence(header)
                        case "ask":
                            await self._take_ask(header, blob)
                        case "log" | "progress" | "refused" as kind:
                            self._hear(kind, header)
                        case other:
                            raise ProtocolError(f"a frame of type {str(other)[:40]!r}")
        except (ConnectionError, BrokenPipeError):
            pass  # WHY: a cell that died closes its end; how it died is asked below
        finally:
            # WHY: not `close`, which waits until a plugin that reads no answers has taken what was written.
            self._writer.transport.abort()
            with contextlib.suppress(ConnectionError, OSError):
                await self._writer.wait_closed()
        return Outcome.UNKNOWN, None, None

    async def _take_ask(self, header: Mapping[str, object], blob: bytes) -> None:
        number, op, arguments = header.get("id"), header.get("op"), header.get("args")
        if not isinstance(number, int) or not isinstance(op, str) or not isinstance(arguments, dict):
            raise ProtocolError("an ask without id, op and args")
        while len(self._asks) >= MAX_OUTSTANDING_ASKS:
            await asyncio.wait(self._asks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(number, op, arguments, blob))
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    def _hear(self, kind: str, header: Mapping[str, object]) -> None:
        match kind:
            case "refused":
                self._take_refusal(header)
            case "progress":
                self._note_log({"level": "progress", "message": header.get("message")})
            case _:
                self._note_log(header)

    def _take_refusal(self, header: Mapping[str, object]) -> None:
        """Pass on what the plugin's own process tells of a refused try; it waits for nothing, and gets no answer."""
        self._refusals += 1
        told = {name: header.get(name) for name in ("kind", "level", "scope")}
        if self._refusals > MAX_REFUSALS or not all(isinstance(each, str) for each in told.values()):
            return
        task = asyncio.create_task(self._pass_on(cast("Mapping[str, Json]", told)))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _pass_on(self, told: Mapping[str, Json]) -> None:
        await self._ask(REFUSED, told, b"")

    async def _answer(self, number: int, op: str, arguments: Mapping[str, Json], blob: bytes) -> None:
        answer = await self._ask(op, arguments, blob)
        note = dict(answer.note)
        try:
            frame = encode({"t": "answer", "id": number, **answer.body}, answer.blob)
        except ProtocolError as problem:
            # WHY: an answer that no frame holds must be told as one, else the plugin would wait for it to its end.
            told = f"it was done, but the answer cannot be sent: {problem}"
            frame = encode({"t": "answer", "id": number, "ok": False, "error": "failed", "message": told})
            note["ok"] = False
        if note:
            self._keep_note(note)
        await self._write(frame)

    def _keep_note(self, note: Mapping[str, Json]) -> None:
        if len(self._notes) < _KEPT_LOGS:
            self._notes.append(dict(note))

    async def _send(self, header: Mapping[str, Json]) -> None:
        await self._write(encode(dict(header)))

    async def _write(self, frame: bytes) -> None:
        async with self._writing:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._writer.write(frame)
                await self._writer.drain()

    def _note_log(self, header: Mapping[str, object]) -> None:
        if len(self._logs) < _KEPT_LOGS:
            self._logs.append(f"{str(header.get('level', 'info'))[:16]}: {str(header.get('message', ''))[:1000]}")

    async def _drain_output(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._cell.output)
        try:
            # WHY: read on when enough is kept, else a plugin that prints much would stand still.
            while data := await reader.read(_READ_BYTES):
                self._printed += data[: max(0, _KEPT_OUTPUT_BYTES - len(self._printed))]
        finally:
            writer.close()

    async def _reap(self, *, left: bool) -> Ending:
        if left:
            # WHY: it closed its end of the channel; how it ended by itself tells more than our kill would.
            with contextlib.suppress(TimeoutError):
                return await asyncio.to_thread(self._cell.wait, _LAST_BREATH_S)
            self._cell.kill()
        try:
            return await asyncio.to_thread(self._cell.wait, _REAP_S)
        except TimeoutError:
            # WHY: what the call answered stands; the kernel ends what was killed, sooner or later.
            self._cell.close()
            return Ending(signal=int(signal.SIGKILL))

    async def _finish(self, draining: "asyncio.Task[None]") -> None:
        with contextlib.suppress(TimeoutError, ConnectionError, OSError):
            await asyncio.wait_for(draining, 1.0)

    def _how_it_died(self, ending: Ending) -> tuple[Outcome, str]:
        if ending.oom:
            return Outcome.KILLED, "it used more memory than it may"
        if ending.signal is not None:
            return Outcome.KILLED, f"it was ended by signal {_signal_name(ending.signal)}"
        return Outcome.FAILED, f"it ended without a result (exit status {ending.exit})"


def _signal_name(number: int) -> str:
    # WHY: a plugin may end itself by any signal, and most real-time ones have no name.
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def _sentence(header: Mapping[str, object]) -> str:
    trace = header.get("trace")
    lines = [f"{header.get('type', 'Error')}: {header.get('message', '')}"[:2000]]
    if isinstance(trace, list):
        lines += [str(line)[:300] for line in trace[:20]]
    return "\n".join(lines)


def json_size(value: Json) -> int:
    """Give how many bytes a value takes as JSON."""
    return len(json.dumps(value))
