"""One connection of a cell, with anything on either side of it: it ends, and nothing passes that was not meant."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import HearthgateError, MalformedError, TooLargeError, UnavailableError
from gateway.executor.far import Budget, Far, Outgoing
from gateway.executor.head import parse_head
from gateway.executor.line import Line, Refusal

PATIENCE_S = 10.0
GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
CONNECT = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"ffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 304 Not Modified\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Connection: close, content-length\r\n",
        b"hello",
        GET,
        POST,
        CHUNKED,
        CONNECT,
        OK,
    ]
)
NOISE = st.one_of(PIECES, st.binary(max_size=30))


async def ends() -> tuple[socket.socket, asyncio.StreamReader, asyncio.StreamWriter]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    reader, writer = await asyncio.open_connection(sock=ours)
    return theirs, reader, writer


async def read_all(sock: socket.socket) -> bytes:
    loop, told = asyncio.get_running_loop(), b""
    while data := await loop.sock_recv(sock, 65536):
        told += data
    return told


class Talk:
    """What a client said and was told, and what the other machine heard."""

    def __init__(self) -> None:
        self.told = self.heard = b""
        self.error: HearthgateError | None = None
        self.counted = [0, 0]


async def talk(sent: bytes, answer: bytes, *, budget: int = 1 << 20) -> Talk:
    """Have a client say something and leave, with a server behind the line that says something and leaves."""
    loop, talked = asyncio.get_running_loop(), Talk()
    client, near_reader, near_writer = await ends()
    server, far_reader, far_writer = await ends()

    def count(out: int, back: int) -> None:
        talked.counted[0] += out
        talked.counted[1] += back

    async def speak(sock: socket.socket, data: bytes) -> bytes:
        try:
            await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)
            return await read_all(sock)
        except OSError:
            return b""
        finally:
            sock.close()

    line, far = Line(near_reader, near_writer, Budget(budget)), Far(far_reader, far_writer, count)

    async def carry() -> None:
        try:
            head = await line.read_head()
            if head is None:
                return
            if head.method == "CONNECT":
                await line.tunnel(far)
            else:
                length = [("transfer-encoding", "chunked")] if head.chunked else [("content-length", "5")]
                headers = [("host", "a.test"), *(length if head.has_body else [])]
                await line.exchange(Outgoing(method=head.method, target="/", headers=headers), far, lambda _: None)
        except HearthgateError as error:
            talked.error = error
            await line.refuse(Refusal(status=400, phrase="no"))
        finally:
            await line.close()
            far_writer.transport.abort()

    async with asyncio.timeout(PATIENCE_S):
        talked.told, talked.heard, _ = await asyncio.gather(speak(client, sent), speak(server, answer), carry())
    return talked


def run(work: Callable[[], Awaitable[Talk]]) -> Talk:
    async def main() -> Talk:
        return await work()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (GET, b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        (POST, b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello"),
        (CHUNKED, b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ],
)
def test_a_request_is_said_anew_and_its_answer_given_back(sent: bytes, heard: bytes) -> None:
    talked = run(lambda: talk(sent, OK))
    assert talked.heard == heard
    assert talked.told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert talked.told.endswith(b"\r\n\r\nhi")
    assert talked.counted == [len(heard), len(OK)]


def test_a_tunnel_passes_bytes_as_they_are() -> None:
    # The client waits for the yes before it speaks; here the server alone has something to say.
    talked = run(lambda: talk(CONNECT, b"\x00\xff anything"))
    assert talked.told == b"HTTP/1.1 200 Connection established\r\n\r\n\x00\xff anything"
    assert talked.heard == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
    ],
    ids=["none", "cut off", "two lengths", "another protocol", "another language", "endless"],
)
def test_an_answer_that_is_not_http_is_not_given_on(answer: bytes) -> None:
    talked = run(lambda: talk(GET, answer))
    assert isinstance(talked.error, UnavailableError)
    assert b"SSH" not in talked.told


def test_a_length_beside_chunks_is_not_given_on() -> None:
    both = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    told = run(lambda: talk(GET, both)).told
    assert b"99" not in told
    assert told.endswith(b"2\r\nhi\r\n0\r\n\r\n")


def test_what_is_used_up_ends_a_line() -> None:
    talked = run(lambda: talk(GET, OK, budget=40))
    assert isinstance(talked.error, TooLargeError)


def test_a_body_with_a_second_request_behind_it_is_refused() -> None:
    talked = run(lambda: talk(POST + GET, OK))
    assert talked.heard.count(b"HTTP/1.1") <= 1
    assert isinstance(talked.error, MalformedError) or talked.error is None


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.sampled_from([GET, POST, CHUNKED, CONNECT, b""])),
    st.lists(NOISE, max_size=5).map(b"".join),
    st.lists(NOISE, max_size=5).map(b"".join),
)
def test_a_line_ends_whatever_either_side_says(first: bytes, more: bytes, answer: bytes) -> None:
    talked = run(lambda: talk(first + more, answer))
    if b"CONNECT" in first or not talked.heard:
        return
    # INVARIANT: whatever was said, one request at most was heard, and it names the host that was judged.
    end = talked.heard.find(b"\r\n\r\n") + 4
    head, _ = parse_head(talked.heard[:end].replace(b" / ", b" http://a.test/ ", 1))
    assert head.host == "a.test"
    assert talked.counted[0] >= len(talked.heard)
