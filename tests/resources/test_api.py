import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, DeniedError, HearthgateError, MalformedError, NotFoundError, UnavailableError
from gateway.resources.api import Api, Upstream, parse_api_request, read_secret
from gateway.resources.network import HttpReply, Network

Serve = Callable[..., AbstractContextManager[Any]]
SECRET = "s3cret+canary/value"  # noqa: S105 (made up)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "weather.secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def call(  # noqa: PLR0913 (each test names what it is about)
    port: int,
    secret_file: Path,
    path: str = "v1/now?city=Graz",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    private: bool = True,
    header: str = "authorization",
) -> HttpReply:
    weather = Upstream(
        name="weather",
        url=f"http://127.0.0.1:{port}/base/",
        header=header,
        prefix="Bearer ",
        secret_file=secret_file,
        private=private,
    )
    request = parse_api_request("weather", method, path, headers or {}, b"")
    return asyncio.run(Api(Network(), [weather]).call(request))


def test_the_credential_is_added_and_the_path_lies_below_the_services_own(serve: Serve, secret_file: Path) -> None:
    with serve(OK) as upstream:
        assert call(upstream.port, secret_file, headers={"accept": "text/plain"}).body == b"hi"
    lines = bytes(upstream.received).decode().lower().splitlines()
    assert lines[0] == "get /base/v1/now?city=graz http/1.1"
    assert f"authorization: bearer {SECRET}" in lines
    assert "accept: text/plain" in lines


def test_a_new_credential_needs_no_restart(serve: Serve, secret_file: Path) -> None:
    with serve(OK) as upstream:
        call(upstream.port, secret_file)
        secret_file.write_text("another-one\n")
        call(upstream.port, secret_file)
    assert b"Bearer another-one" in upstream.received


@pytest.mark.parametrize(
    ("path", "scope", "target"),
    [
        ("", "weather", ""),
        ("/", "weather", ""),
        ("v1/now", "weather/v1/now", "/v1/now"),
        ("/v1/now/", "weather/v1/now", "/v1/now/"),
        ("v1?q=%2e%2e/x", "weather/v1", "/v1?q=%2e%2e/x"),
        ("v1/caf%C3%A9", "weather/v1/caf\u00e9", "/v1/caf%C3%A9"),
        ("v1/caf\u00e9", "weather/v1/caf\u00e9", "/v1/caf%C3%A9"),
        ("v%31/a;b=c", "weather/v1/a;b=c", "/v1/a%3Bb=c"),
        ("%61dmin", "weather/admin", "/admin"),
    ],
)
def test_what_is_judged_is_what_is_sent_in_one_spelling(path: str, scope: str, target: str) -> None:
    request = parse_api_request("weather", "GET", path, {}, b"")
    assert (request.scope, request.target) == (scope, target)


@pytest.mark.parametrize(
    "path",
    [
        "../admin",
        "v1/../admin",
        "v1/%2e%2e/admin",
        "v1/%2E./admin",
        "v1//admin",
        "v1/%2fadmin",
        "v1/..%5cadmin",
        "v1\\admin",
        "v1/%252e%252e/admin",
        "v1/.",
        "v1/%00",
        "v1/%ff",
        "v1/\n",
        "v1/\ud800",
        "v1/*",
        "v1/e\u0301",
    ],
)
def test_no_spelling_leads_past_the_scope_that_was_judged(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_api_request("weather", "GET", path, {}, b"")


@pytest.mark.parametrize("path", ["v1?a=b c", "v1?a\r\nX-Evil: 1", "v1?#x", "v1?a=%zz"])
def test_a_query_cannot_break_out_of_its_line(serve: Serve, secret_file: Path, path: str) -> None:
    with serve(OK) as upstream, pytest.raises(MalformedError):
        call(upstream.port, secret_file, path)
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "name", ["Authorization", "authorization", "Cookie", "Accept-Encoding", "Range", "X-Key", "x_api_key", "Host"]
)
def test_a_plugin_sets_no_header_that_says_who_asks_or_hides_the_answer(
    serve: Serve, secret_file: Path, name: str
) -> None:
    with serve(OK) as upstream, pytest.raises(MalformedError):
        call(upstream.port, secret_file, headers={name: "mine"}, header="x-key")
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\nyou sent " + SECRET.encode() + b"]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n"s3cret+canary\\/value"',
        b"HTTP/1.1 200 OK\r\nX-Echo: Bearer " + SECRET.encode() + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /?k=s3cret%2Bcanary%2Fvalue\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_an_answer_that_tells_the_credential_or_may_hide_it_is_not_handed_on(
    serve: Serve, secret_file: Path, answer: bytes
) -> None:
    with serve(answer) as upstream, pytest.raises(UnavailableError) as refused:
        call(upstream.port, secret_file)
    assert SECRET not in str(refused.value)


def test_an_address_that_is_not_public_is_for_the_operator_to_allow(serve: Serve, secret_file: Path) -> None:
    with serve(OK) as upstream, pytest.raises(DeniedError, match="not public"):
        call(upstream.port, secret_file, private=False)
    assert upstream.connections == 0


def test_a_service_that_nobody_named_is_not_there() -> None:
    with pytest.raises(NotFoundError):
        asyncio.run(Api(Network()).call(parse_api_request("weather", "GET", "x", {}, b"")))


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (None, 0o600),
        (b"", 0o600),
        (b"short", 0o600),
        (b"two\nlines here", 0o600),
        (b"caf\xc3\xa9-secret", 0o600),
        (b"x" * 9000, 0o600),
        (SECRET.encode(), 0o640),
        (SECRET.encode(), 0o604),
    ],
)
def test_a_credential_that_cannot_be_believed_is_not_used(
    serve: Serve, tmp_path: Path, content: bytes | None, mode: int
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigError) as told:
        read_secret(path)
    assert SECRET not in str(told.value)
    with serve(OK) as upstream, pytest.raises(HearthgateError) as refused:
        call(upstream.port, path)
    assert str(tmp_path) not in str(refused.value)
    assert upstream.connections == 0
