"""The head of a request is refused, or read as every other reader would read it."""

import http.client
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import MalformedError
from gateway.executor.head import MAX_HEAD_BYTES, parse_head, unfit

PLAIN = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
LINES = st.sampled_from(
    [
        b"Host: a.test",
        b"host:b.test",
        b"Content-Length: 3",
        b"Content-Length: 03",
        b"content-length:3,3",
        b"Content-Length: \xb2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: CHUNKED",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer_Encoding: chunked",
        b"Connection: close",
        b"Connection: close, x-a",
        b"Upgrade: h2c",
        b"X-A: 1",
        b"X-A:\t 1 \t",
        b"X-A:",
        b" folded",
        b"\tfolded",
        b"X A: 1",
        b"X-A : 1",
        b": 1",
        b"X-A",
        b"X-A: \x00",
        b"X-A: a\nX-B: b",
        b"X-A: a\rX-B: b",
    ]
)
FIRST = st.sampled_from(
    [
        b"GET http://a.test/ HTTP/1.1",
        b"POST http://a.test/ HTTP/1.1",
        b"POST http://a.test/ HTTP/1.0",
        b"CONNECT a.test:443 HTTP/1.1",
        b"GET http://a.test/ HTTP/1.2",
        b"GET http://a.test/ HTTP/2.0",
        b"GET  http://a.test/ HTTP/1.1",
        b"GET http://a.test/ x HTTP/1.1",
        b"GET\thttp://a.test/\tHTTP/1.1",
        b"GET http://a.test/",
        b" GET http://a.test/ HTTP/1.1",
        b"",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Give heads that are nearly right, some with a byte put anywhere."""
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    raw = end.join([draw(FIRST), *draw(st.lists(LINES, max_size=5))]) + b"\r\n\r\n"
    if draw(st.booleans()):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=2)) + raw[at:]
    return raw


@given(
    st.one_of(
        heads(), st.binary(max_size=200), st.binary(max_size=100).map(lambda each: PLAIN[:-2] + each + b"\r\n\r\n")
    )
)
@example(PLAIN)
@example(b"\r\n\r\n")
def test_a_head_is_refused_or_says_what_another_reader_reads(raw: bytes) -> None:
    try:
        head, _ = parse_head(raw)
    except MalformedError:
        return
    first, _, rest = raw.partition(b"\r\n")
    assert first.split(b" ")[:2] == [head.method.encode(), head.target.encode()]
    read = http.client.parse_headers(io.BytesIO(rest))
    assert [(name.lower(), value.strip()) for name, value in read.items()] == list(head.headers)
    assert len(head.values("content-length")) + len(head.values("transfer-encoding")) <= 1
    assert len(head.values("host")) <= 1
    assert not unfit(raw)


@given(st.integers(1, len(PLAIN) - 1))
def test_what_has_come_of_a_good_head_is_never_unfit(size: int) -> None:
    assert not unfit(PLAIN[:size])


def test_a_good_head_is_read() -> None:
    head, _ = parse_head(b"POST http://a.test/b HTTP/1.1\r\nHOST: a.test\r\nX-Y: z \r\nContent-Length: 3\r\n\r\n")
    assert (head.method, head.target, head.host, head.has_body, head.chunked) == (
        "POST",
        "http://a.test/b",
        "a.test",
        True,
        False,
    )
    assert head.headers == (("host", "a.test"), ("x-y", "z"), ("content-length", "3"))


@pytest.mark.parametrize(
    "raw", [PLAIN + PLAIN, PLAIN[:-1], b"", PLAIN.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * MAX_HEAD_BYTES)]
)
def test_more_or_less_than_one_head_is_none(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_head(raw)
