"""Answers of an application in this process come piece by piece, and end when nobody listens."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest

from gateway.client.embedded import Application, EmbeddedTransport

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(text: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": more}


def client(application: Application) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=EmbeddedTransport(application, ("unix-uid:7", 0)), base_url="http://localhost")


def test_the_application_sees_who_asks_what() -> None:
    seen: list[Message] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        seen.extend((scope, await receive()))
        await send(START)
        await send(body(b"ok", more=False))

    async def main() -> None:
        async with client(application) as asking:
            reply = await asking.post("/a b?q=1", json={"x": 1}, headers={"X-Y": "z"})
            assert (reply.status_code, reply.text) == (200, "ok")

    asyncio.run(main())
    scope, received = seen
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["client"]) == (b"q=1", ("unix-uid:7", 0))
    assert (b"x-y", b"z") in scope["headers"]
    assert received["body"] == b'{"x":1}'


def test_pieces_arrive_before_the_answer_is_over_and_reading_holds_the_writer_back() -> None:
    sent = 0

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for sent in range(1, 1001):
            await send(body(b"%d\n" % sent))
        await send(body(b"", more=False))

    async def main() -> None:
        async with client(application) as asking, asking.stream("GET", "/") as reply:
            pieces = reply.aiter_bytes()
            assert await anext(pieces) == b"1\n"
            await asyncio.sleep(0)
            assert sent < 50
            assert len([piece async for piece in pieces]) == 999

    asyncio.run(main())


def test_whoever_hangs_up_stops_the_application() -> None:
    stopped = False

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        nonlocal stopped
        try:
            await send(START)
            while True:
                await send(body(b"more"))
        finally:
            stopped = True

    async def main() -> None:
        async with client(application) as asking, asking.stream("GET", "/") as reply:
            await anext(reply.aiter_bytes())
        assert stopped

    asyncio.run(main())


@pytest.mark.parametrize("told", [0, 1, 2])
def test_an_application_that_breaks_off_is_an_error_and_never_a_short_answer(told: int) -> None:
    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        for message in (START, body(b"half"))[:told]:
            await send(message)

    async def main() -> None:
        async with client(application) as asking:
            with pytest.raises(httpx.RemoteProtocolError):
                await asking.get("/")

    asyncio.run(main())


@pytest.mark.parametrize("told", [0, 1, 2])
def test_an_application_that_raises_is_heard(told: int) -> None:
    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        for message in (START, body(b"half"))[:told]:
            await send(message)
        raise ZeroDivisionError

    async def main() -> None:
        async with client(application) as asking:
            with pytest.raises(ZeroDivisionError):
                await asking.get("/")

    asyncio.run(main())


def test_an_application_that_waits_for_the_end_of_its_answer_hears_of_it() -> None:
    async def application(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"ok", more=False))
        while (await receive())["type"] != "http.disconnect":
            pass

    async def main() -> None:
        async with client(application) as asking:
            assert (await asking.get("/")).text == "ok"

    asyncio.run(asyncio.wait_for(main(), 10))


def test_work_after_the_answer_is_waited_for() -> None:
    done = False

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        nonlocal done
        await send(START)
        await send(body(b"ok", more=False))
        await asyncio.sleep(0.01)
        done = True

    async def main() -> None:
        async with client(application) as asking:
            await asking.get("/")
        assert done

    asyncio.run(main())
