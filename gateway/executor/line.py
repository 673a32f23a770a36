"""One connection that a cell made to its relay: one request, carried or refused, then it is closed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

from gateway.domain.request import Json
from gateway.errors import MalformedError, UnavailableError
from gateway.executor.far import Budget, Far, Outgoing, for_client, next_event, take_in
from gateway.executor.head import END, MAX_HEAD_BYTES, Head, parse_head, unfit

READ_BYTES = 64 << 10
_HEAD_S = 10.0
_IDLE_S = 60.0  # without a byte in either direction
_FAREWELL_S = 2.0
_UNREAD_BYTES = 1 << 20  # of a refused request's body, taken so that the refusal is read
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_MAX_ANSWER_HEAD = 64 << 10
_GO_ON = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not carried, as its client is told; `phrase` is all that some clients show."""

    status: int
    phrase: str
    members: Mapping[str, Json] = field(default_factory=dict)

    def encode(self, *, bare: bool) -> bytes:
        """Give the answer's bytes; `bare`: without the body, as for HEAD."""
        body = json.dumps({"status": self.status, **self.members}).encode()
        phrase = "".join(each if " " <= each <= "~" else "?" for each in self.phrase)
        lines = (
            f"HTTP/1.1 {self.status} {phrase}",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join(lines).encode("ascii") + END + (b"" if bare else body)


class Line:
    """One connection of a cell; `read_head` first, then one of `tunnel`, `exchange` and `refuse`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: Budget) -> None:
        self._reader, self._writer, self._budget = reader, writer, budget
        self.head: Head | None = None
        self._near: h11.Connection
        self._idle: asyncio.Timeout | None = None
        self._down: asyncio.Task[None] | None = None  # what brings the answer, while there is one
        self._sent_all = self._deserted = False
        self.answered = False  # whether a byte of an answer was sent

    async def read_head(self) -> Head | None:
        """Read the head of the one request; None where none came.

        Raises:
            MalformedError: what came is not one, or something follows that does not belong to it.
        """
        raw = bytearray()
        try:
            async with asyncio.timeout(_HEAD_S):
                while (end := raw.find(END)) < 0:
                    if len(raw) > MAX_HEAD_BYTES or unfit(bytes(raw)):
                        raise MalformedError("a head that is too long, or that is not HTTP")
                    data = await self._reader.read(READ_BYTES)
                    if not data:
                        return None
                    raw += data
        except TimeoutError:
            raise MalformedError(f"no whole head within {_HEAD_S:g} s") from None
        size = end + len(END)
        if size > MAX_HEAD_BYTES:
            raise MalformedError("a head that is too long")
        self.head, self._near = parse_head(bytes(raw[:size]))
        rest = bytes(raw[size:])
        if rest and not self.head.has_body:
            raise MalformedError("a second request on the same connection")
        if rest:
            self._near.receive_data(rest)
        return self.head

    async def tunnel(self, far: Far) -> None:
        """Say yes, and let bytes through both ways until both ends have no more.

        Raises:
            UnavailableError: the other machine broke off, or nothing passed for a while.
            TooLargeError: the call's budget is used up.
        """

        async def up() -> None:
            while data := await self._read():
                await self._send_on(far, data)
            far.writer.write_eof()
            self._end_sending()

        async def down() -> None:
            while data := await far.reader.read(READ_BYTES):
                self._pass(far, 0, len(data))
                await self._write(data)
            self._writer.write_eof()

        async with self._watched():
            await self._write(_ESTABLISHED)
            await self._both(up(), down(), asyncio.FIRST_EXCEPTION)

    async def exchange(self, outgoing: Outgoing, far: Far, told: Callable[[int], None]) -> None:
        """Send one request on and give its answer back; `told` gets the answer's status.

        Raises:
            MalformedError: its body is not what its head said.
            UnavailableError: the other machine broke off, its answer is not HTTP, or nothing passed for a while.
            TooLargeError: the call's budget is used up.
        """
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_ANSWER_HEAD)
        head = client.send(h11.Request(method=outgoing.method, target=outgoing.target, headers=list(outgoing.headers)))
        async with self._watched():
            await self._send_on(far, head)
            # WHY: a server may answer before it has all; a body that is broken ends both.
            await self._both(self._upload(client, far), self._download(client, far, told), asyncio.FIRST_COMPLETED)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer no, unless an answer has begun."""
        if self.answered:
            return
        with contextlib.suppress(_LeftError, OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._write(refusal.encode(bare=self.head is not None and self.head.method == "HEAD"))
                self._writer.write_eof()
                # WHY: closed with bytes unread, the kernel would take the answer back.
                left = _UNREAD_BYTES
                while left > 0 and (data := await self._reader.read(READ_BYTES)):
                    left -= len(data)

    def desert(self) -> None:
        """Say that nobody is left to read: it ends when what was sent has gone on."""
        self._deserted = True
        if self._sent_all and self._down is not None:
            self._down.cancel()

    async def close(self) -> None:
        """Send what is left to send, and let go, soon."""
        self._writer.close()
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._writer.wait_closed()
        finally:
            self.abort()

    def abort(self) -> None:
        """Let go now."""
        self._writer.transport.abort()

    async def _upload(self, client: h11.Connection, far: Far) -> None:
        near = self._near
        while not isinstance(event := next_event(near, MalformedError), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                await self._send_on(far, client.send(event))
            elif event is h11.NEED_DATA:
                if near.they_are_waiting_for_100_continue:
                    await self._write(near.send(_GO_ON))
                take_in(near, await self._read(), MalformedError)
            else:
                raise MalformedError("a body that breaks off")
        if near.trailing_data[0]:
            raise MalformedError("a second request on the same connection")
        # WHY: trailers are not sent on: some servers take them for headers.
        await self._send_on(far, client.send(h11.EndOfMessage()))
        self._end_sending()

    async def _download(self, client: h11.Connection, far: Far, told: Callable[[int], None]) -> None:
        while not isinstance(event := next_event(client, UnavailableError), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                data = await far.reader.read(READ_BYTES)
                self._pass(far, 0, len(data))
                take_in(client, data, UnavailableError)
            elif isinstance(event, h11.Response):
                told(event.status_code)
                await self._answer(for_client(event))
            elif isinstance(event, h11.Data):
                await self._answer(event)
            elif not isinstance(event, h11.InformationalResponse):
                raise UnavailableError("the answer breaks off")
        await self._answer(h11.EndOfMessage())

    async def _answer(self, event: h11.Event) -> None:
        try:
            data = self._near.send(event)
        except h11.LocalProtocolError as error:
            raise UnavailableError(f"the answer is not HTTP: {error}") from None
        await self._write(data)

    def _end_sending(self) -> None:
        self._sent_all = True
        if self._deserted:
            self.desert()

    async def _both(self, up: Coroutine[Any, Any, None], down: Coroutine[Any, Any, None], until: str) -> None:
        """Run both ways at once; the first error ends both, and the answer is waited for unless nobody reads it."""
        sending, self._down = asyncio.ensure_future(up), asyncio.ensure_future(down)
        try:
            await asyncio.wait({sending, self._down}, return_when=until)
            if sending.done():
                sending.result()
            await asyncio.wait({self._down})
            if not self._down.cancelled():
                self._down.result()
        finally:
            for task in (sending, self._down):
                task.cancel()
            await asyncio.gather(sending, self._down, return_exceptions=True)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            raise _LeftError from None

    async def _write(self, data: bytes | None) -> None:
        if not data:
            return
        self.answered = True
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            raise _LeftError from None

    async def _send_on(self, far: Far, data: bytes | None) -> None:
        if data:
            # WHY: counted before it is sent, for of what breaks off in the middle the most must count.
            self._pass(far, len(data), 0)
            far.writer.write(data)
            await far.writer.drain()

    def _pass(self, far: Far, sent: int, received: int) -> None:
        self._budget.take(sent + received)
        far.count(sent, received)
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time() + _IDLE_S)

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_IDLE_S) as self._idle:
                yield
        except _LeftError:
            return  # WHY: its own client closed it, which is how most connections end
        except TimeoutError:
            raise UnavailableError(f"nothing passed for {_IDLE_S:g} s") from None
        except OSError as error:
            raise UnavailableError(f"the other side broke off: {error}") from None


class _LeftError(Exception):
    """The cell's own end is closed."""
