"""The conversation about one call: it goes in, its asks come back here, one result comes out."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from gateway.domain.isolation import Isolation
from gateway.domain.outcome import Outcome
from gateway.domain.request import Json
from gateway.executor.egress import Passing, Relay
from gateway.executor.waiting import Waiting
from sandbox.frames import Decoder, Frame, ProtocolError, encode

MAX_OUTSTANDING_ASKS = 16
MAX_REFUSALS = 16  # that a call's process may tell of
MAX_TELLINGS = 1000  # that are looked at, the same one again among them
REFUSED = "refused"  # what is no ask: a try that the cell refused
_KEPT_LOGS = 200
_READ_BYTES = 64 << 10
_CANCEL_S = 0.25
_HOSTLESS_S = 0.5


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
    isolation: Isolation = Isolation.PRISTINE
    generation: int = 0  # of the plugin's registration
    by_user: str = ""  # whose credential it came with, which need not be the user's
    waiting: Waiting | None = None  # who hears of it while it runs; None: nobody


@dataclass(frozen=True, slots=True)
class WayOut:
    """A cell's door, and how what comes through it is passed on."""

    door: socket.socket
    passing: Passing


@dataclass(frozen=True, slots=True)
class Said:
    """How a conversation ended; `outcome` is unknown where the other end closed without a result."""

    outcome: Outcome
    output: Json = None
    error: str | None = None
    is_sound: bool = False  # the call was answered, and nothing was said beyond that
    is_last: bool = False  # the cell says that it cannot answer another call


class Conversation:
    """Talks about one call over one channel until it is answered, whatever the plugin does."""

    # SECURITY: who asks is known from which cell's socket it came; nothing identifying is read from a frame.

    def __init__(
        self, channel: socket.socket, job: Job, ask: Ask, kill: Callable[[], None], way_out: WayOut | None = None
    ) -> None:
        self.isolation = job.isolation
        self._channel = channel
        self._job = job
        self._ask = ask
        self._kill = kill
        self._way_out = way_out
        self._relay: Relay | None = None
        self._refusals = 0
        self._refused: set[tuple[object, ...]] = set()
        self._hostless: asyncio.TimerHandle | None = None
        self._hostless_try: tuple[object, ...] | None = None
        self._told: set[asyncio.Task[None]] = set()
        self._decoder = Decoder()
        self._asks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self.logs: list[str] = []
        self.notes: list[dict[str, Json]] = []
        self.kill_reason: str | None = None
        self.broke_protocol = False

    def kill(self, why: str) -> None:
        """End the whole cell now; the call's outcome is `killed`."""
        self.kill_reason = self.kill_reason or why
        self._kill()
        if self._relay is not None:
            self._relay.stop()

    async def run(self) -> Said:
        """Say what the call is, answer what it asks, and give how it ended."""
        if self._way_out is not None and self.kill_reason is None:
            self._relay = Relay(self._way_out.door, self._way_out.passing, self._keep_note)
        try:
            async with asyncio.timeout(self._job.timeout_s):
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
                return await self._hear()
        except TimeoutError:
            return Said(Outcome.TIMED_OUT, error=f"it ran longer than {self._job.timeout_s:g} s")
        except ProtocolError as problem:
            self.broke_protocol = True
            return Said(Outcome.KILLED, error=f"it broke the protocol: {problem}")
        finally:
            await self._end_asks()

    async def end_relay(self) -> None:
        """Let what was sent through the relay go on for a moment, and close it; the cell is ended before."""
        if self._relay is not None:
            await (self._relay.finish() if self.kill_reason is None else self._relay.close())

    async def stop(self) -> bool:
        """Say that nobody waits any more; tells whether the call ended soon, and soundly."""
        with contextlib.suppress(TimeoutError, ProtocolError):
            async with asyncio.timeout(_CANCEL_S):
                await self._send({"t": "cancel"})
                return (await self._hear()).is_sound
        return False

    async def _hear(self) -> Said:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._channel, _READ_BYTES):
                if self.kill_reason is not None:
                    break  # WHY: what a cell says while it is ended, as when its connections are cut, is no result
                frames = self._decoder.feed(data)
                for header, blob in frames:
                    said = await self._take(header, blob)
                    if said is not None:
                        return replace(said, is_sound=not said.is_last and self._is_silent(frames))
        except (ConnectionError, BrokenPipeError):
            pass  # WHY: a cell that died closes its end; how it died is asked elsewhere
        return Said(Outcome.UNKNOWN)

    def _is_silent(self, frames: Iterator[Frame]) -> bool:
        """Tell whether nothing was said behind the answer; what stands there cannot undo the answer."""
        try:
            return next(frames, None) is None and self._decoder.is_between_frames
        except ProtocolError:
            return False

    async def _take(self, header: Mapping[str, object], blob: bytes) -> Said | None:
        # SECURITY: a frame that was sent for another call, before or after, answers nothing.
        if header.get("call") != self._job.execution_id:
            raise ProtocolError("a frame of another call")
        match header.get("t"):
            case "result":
                return Said(Outcome.RETURNED, output=cast("Json", header.get("value")))
            case "error":
                return Said(Outcome.FAILED, error=_sentence(header), is_last=header.get("last") is True)
            case "ask":
                await self._take_ask(header, blob)
            case "log":
                self._note_log(header)
            case "progress":
                self._note_log({"level": "progress", "message": header.get("message")})
                if self._job.waiting is not None:
                    self._job.waiting.hear(header.get("fraction"), header.get("message"))
            case "refused":
                self._take_refusal(header)
            case other:
                raise ProtocolError(f"a frame of type {str(other)[:40]!r}")
        return None

    async def _end_asks(self) -> None:
        for task in self._asks:
            task.cancel()
        if self._asks or self._told:
            # WHY: not cancelled, for what was refused is recorded, also where the call ended by it.
            await asyncio.gather(*self._asks, *self._told, return_exceptions=True)

    async def _take_ask(self, header: Mapping[str, object], blob: bytes) -> None:
        number, op, arguments = header.get("id"), header.get("op"), header.get("args")
        if not isinstance(number, int) or not isinstance(op, str) or not isinstance(arguments, dict):
            raise ProtocolError("an ask without id, op and args")
        while len(self._asks) >= MAX_OUTSTANDING_ASKS:
            await asyncio.wait(self._asks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(number, op, arguments, blob))
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    def _take_refusal(self, header: Mapping[str, object]) -> None:
        """Pass on what the plugin's own process tells of a refused try; it waits for nothing, and gets no answer."""
        # SECURITY: by whom it was told is not in the frame, so that a plugin cannot speak as the kernel.
        self._tell(header, "plugin")

    def tell_refused(self, told: Mapping[str, object]) -> None:
        """Pass on what the kernel told the cell's own init of a refused try, as what its process tells by itself."""
        self._tell(told, "kernel")

    async def end_telling(self) -> None:
        """Wait until all that was told is recorded."""
        self._tell_hostless()
        if self._told:
            await asyncio.gather(*self._told, return_exceptions=True)

    def _tell(self, header: Mapping[str, object], by: str) -> None:
        found = tuple(header.get(name) for name in ("kind", "level", "scope"))
        self._refusals += 1
        if found in self._refused or len(self._refused) >= MAX_REFUSALS or self._refusals > MAX_TELLINGS:
            return
        if not all(isinstance(each, str) for each in found):
            return
        if by == "kernel" and str(found[2]).startswith("socket("):
            # WHY: a socket that is refused names no host; told only where nothing that names one comes meanwhile.
            self._hostless = self._hostless or asyncio.get_running_loop().call_later(_HOSTLESS_S, self._tell_hostless)
            self._hostless_try = self._hostless_try or found
            return
        self._pass(found, by)

    def _tell_hostless(self) -> None:
        found, self._hostless_try = self._hostless_try, None
        if self._hostless is not None:
            self._hostless.cancel()
            self._hostless = None
        if found is not None and not any(each[0] == found[0] for each in self._refused):
            self._pass(found, "kernel")

    def _pass(self, found: tuple[object, ...], by: str) -> None:
        self._refused.add(found)
        told = {"kind": found[0], "level": found[1], "scope": found[2], "by": by}
        task = asyncio.create_task(self._pass_on(cast("Mapping[str, Json]", told)))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _pass_on(self, told: Mapping[str, Json]) -> None:
        await self._ask(REFUSED, told, b"")

    async def _answer(self, number: int, op: str, arguments: Mapping[str, Json], blob: bytes) -> None:
        answer = await self._ask(op, arguments, blob)
        note = dict(answer.note)
        mark: dict[str, Json] = {"t": "answer", "call": self._job.execution_id, "id": number}
        try:
            frame = encode({**mark, **answer.body}, answer.blob)
        except ProtocolError as problem:
            # WHY: an answer that no frame holds must be told as one, else the plugin would wait for it to its end.
            told = f"it was done, but the answer cannot be sent: {problem}"
            frame = encode({**mark, "ok": False, "error": "failed", "message": told})
            note["ok"] = False
        if note:
            self._keep_note(note)
        await self._write(frame)

    def _keep_note(self, note: Mapping[str, Json]) -> None:
        if len(self.notes) < _KEPT_LOGS:
            self.notes.append(dict(note))

    async def _send(self, header: Mapping[str, Json]) -> None:
        await self._write(encode({**header, "call": self._job.execution_id}))

    async def _write(self, frame: bytes) -> None:
        async with self._writing:
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(self._channel, frame)

    def _note_log(self, header: Mapping[str, object]) -> None:
        if len(self.logs) < _KEPT_LOGS:
            self.logs.append(f"{str(header.get('level', 'info'))[:16]}: {str(header.get('message', ''))[:1000]}")


def _sentence(header: Mapping[str, object]) -> str:
    trace = header.get("trace")
    lines = [f"{header.get('type', 'Error')}: {header.get('message', '')}"[:2000]]
    if isinstance(trace, list):
        lines += [str(line)[:300] for line in trace[:20]]
    return "\n".join(lines)


def json_size(value: Json) -> int:
    """Give how many bytes a value takes as JSON."""
    return len(json.dumps(value))
