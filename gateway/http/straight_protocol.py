"""The straight way on a connection: a plain question is answered without an ASGI call for each.

Everything but the answer itself is the inherited protocol's: parsing, pipelining, keep-alive, back-pressure, drain. A
request that turns out not to be plain is handed on as if it had never been looked at.
"""

from collections.abc import Sequence
from functools import partial

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.domain.caller import Caller
from gateway.flows.ask import Question
from gateway.http.heads import Head, head_of
from gateway.http.peer import PeerProtocol
from gateway.http.straight import PLAIN, StraightWay

_URLS = frozenset(path.encode() for path in PLAIN)


class StraightProtocol(PeerProtocol):
    """HTTP that knows the straight way, where the application it serves has one."""

    _asked: tuple[RequestResponseCycle, StraightWay, Caller] | None = None  # by whom, while the body is not there

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Let a request be answered; a plain question as soon as it is there whole."""
        # INVARIANT: `url` is of the head that was read last; a request that had to wait is not the last one.
        if self.url in _URLS and cycle is self.cycle and isinstance(app, StraightWay):
            caller = None if cycle.waiting_for_100_continue or not cycle.more_body else app.known(cycle.scope)
            if caller is not None:
                self._asked = cycle, app, caller
                return
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Answer a plain question; what is none goes the framework's way."""
        super().on_message_complete()
        asked, self._asked = self._asked, None
        if asked is None:
            return
        cycle, way, caller = asked
        question = way.question(cycle.scope["path"], cycle.body, caller)
        if question is None:
            super()._start_asgi_task(cycle, self.app)
            return
        task = self.loop.create_task(self._answer(cycle, way, caller, question))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, cycle: RequestResponseCycle, way: StraightWay, caller: Caller, question: Question) -> None:
        try:
            body, more = await way.answer(cycle.scope["path"], caller, question)
        except Exception as error:  # noqa: BLE001 (as the framework does)
            await cycle.run_asgi(partial(way.refuse, error))
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        ending = b"" if cycle.keep_alive else b"connection: close\r\n"
        if more := (*more, *head_of(cycle.scope)):
            ending = _lines(more) + ending
        cycle.transport.write(b"%b%d\r\n%b\r\n%b" % (self._head(), len(body), ending, body))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _head(self) -> bytes:
        """Give the head of a good answer up to its length; what is given with every answer is made anew each second."""
        global _made  # noqa: PLW0603 (one clock for all connections)
        headers = self.server_state.default_headers
        if _made[0] is not headers:
            lines = [b"%b: %b\r\n" % header for header in headers]
            _made = headers, b"".join([STATUS_LINE[200], *lines, b"content-type: application/json\r\ncontent-length: "])
        return _made[1]


def _lines(headers: Head) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_made: tuple[Sequence[tuple[bytes, bytes]], bytes] = ((), b"")
