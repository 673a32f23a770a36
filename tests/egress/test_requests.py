"""What a request through the relay may look like: anything that two readers could read differently is refused."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

Travel = Callable[..., "Home"]
# {h} stands for a host and port that are allowed; each must never reach the server.
SMUGGLED = {
    "two ends of the body": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: 4\r\n"
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length twice": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "two lengths": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: 1\r\nContent-Length: 5\r\n\r\nx",
    "a list of lengths": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: 1, 1\r\n\r\nx",
    "a signed length": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: +1\r\n\r\nx",
    "a negative length": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: -1\r\n\r\nx",
    "another coding": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding in disguise": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding of HTTP/1.0": "POST http://{h}/ HTTP/1.0\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": "POST http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length : 1\r\n\r\nx",
    "a folded line": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX-A: 1\r\n Content-Length: 9\r\n\r\n",
    "bare line feeds": "GET http://{h}/ HTTP/1.1\nHost: {h}\n\n",
    "one bare line feed": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX: 1\nX-Y: 2\r\n\r\n",
    "a bare carriage return": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX: 1\rX-Y: 2\r\n\r\n",
    "a null": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX: a\x00b\r\n\r\n",
    "a high byte": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX: \xff\r\n\r\n",
    "an empty line first": "\r\nGET http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "another host": "GET http://{h}/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "another port": "GET http://{h}/ HTTP/1.1\r\nHost: good.test:1\r\n\r\n",
    "no host": "GET http://{h}/ HTTP/1.1\r\n\r\n",
    "no host in HTTP/1.0": "GET http://{h}/ HTTP/1.0\r\n\r\n",
    "two hosts": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nHost: other.test\r\n\r\n",
    "an origin form": "GET / HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "an asterisk": "OPTIONS * HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "an https target": "GET https://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "another scheme": "GET ftp://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a user in the target": "GET http://{h}@other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "a user before it": "GET http://x@{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a backslash": "GET http://{h}\\@other.test/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a fragment": "GET http://{h}/#x HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "an upgrade": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "an upgrade alone": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nUpgrade: websocket\r\n\r\n",
    "a header to be taken out": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nConnection: Host\r\n\r\n",
    "a second request": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\nGET http://{h}/two HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a body of a GET": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nContent-Length: 1\r\n\r\nx",
    "a method in disguise": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX-HTTP-Method-Override: DELETE\r\n\r\n",
    "a forwarded address": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
    "a method nobody knows": "TRACE http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a small method": "get http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "the second version": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": "GET http://{h}/\r\n\r\n",
    "a tunnel without a port": "CONNECT good.test HTTP/1.1\r\nHost: good.test\r\n\r\n",
    "a tunnel to a URL": "CONNECT http://{h}/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "a tunnel of another host": "CONNECT {h} HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "a tunnel with a body": "CONNECT {h} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 1\r\n\r\nx",
    "a tunnel in haste": "CONNECT {h} HTTP/1.1\r\nHost: {h}\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "an endless head": "GET http://{h}/ HTTP/1.1\r\nHost: {h}\r\nX: " + "x" * 40_000 + "\r\n\r\n",
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def test_what_could_be_read_in_two_ways_reaches_nobody(travel: Travel, internet: "Internet") -> None:
    home = travel()
    host = f"good.test:{internet.http}"
    deeds = [["raw", text.replace("{h}", host)] for text in SMUGGLED.values()]
    told = home.person("alice", "execute").run("puppet", *deeds)
    for name, answer in zip(SMUGGLED, told, strict=True):
        assert isinstance(answer, str), (name, answer)
        assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.1 413 ")), (name, answer)
    assert internet.asked == []
    assert internet.looked_up == []
    assert home.decided(subject="plugin:puppet", kind="network") == []


def test_the_same_bytes_without_the_oddity_are_carried(travel: Travel, internet: "Internet") -> None:
    home = travel()
    host = f"good.test:{internet.http}"
    plain = (
        f"GET http://{host}/a HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nX-A: 1\r\n\r\n",
        f"GET http://{host.upper()}/b HTTP/1.0\r\nHost: GOOD.test.:{internet.http}\r\n\r\n",
        f"HEAD http://{host}/c HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"POST http://{host}/d HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi",
        f"POST http://{host}/e HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        f"PUT http://{host}/f HTTP/1.1\r\nHost: {host}\r\n\r\n",
    )
    told = home.person("alice", "execute").run("puppet", *[["raw", each] for each in plain])
    assert all(" 200 OK" in each for each in told), told
    assert internet.asked == [
        "http GET /a",
        "http GET /b",
        "http HEAD /c",
        "http POST /d hi",
        "http POST /e hi",
        "http PUT /f",
    ]


def test_what_follows_a_body_is_another_request_and_goes_nowhere(travel: Travel, internet: "Internet") -> None:
    home = travel()
    host = f"good.test:{internet.http}"
    two = (
        f"POST http://{host}/one HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi"
        f"GET http://{host}/two HTTP/1.1\r\nHost: {host}\r\n\r\n"
    )
    home.person("alice", "execute").run("puppet", ["raw", two])
    assert not [each for each in internet.asked if "two" in each]


def test_headers_of_the_connection_are_not_sent_on_in_either_direction(travel: Travel, internet: "Internet") -> None:
    home = travel()
    host = f"good.test:{internet.http}"
    sent = (
        f"GET http://{host}/headers HTTP/1.1\r\nHost: {host}\r\nConnection: close, TE\r\nTE: trailers\r\n"
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic xyz\r\nKeep-Alive: 5\r\nX-Mine: yes\r\n"
        "Cookie: a=1\r\nCookie: b=2\r\n\r\n"
    )
    (told,) = home.person("alice", "execute").run("puppet", ["raw", sent])
    head, _, body = told.partition("\r\n\r\n")
    assert sorted(body.split("\n")) == [
        "connection: close",
        "cookie: a=1",
        "cookie: b=2",
        f"host: {host}",
        "x-mine: yes",
    ]
    assert "private" not in head.lower()


def test_a_redirect_is_the_clients_to_follow_and_is_asked_anew(travel: Travel, internet: "Internet") -> None:
    home = travel()
    internet.names["elsewhere.test"] = [["127.0.0.1"]]
    start = f"http://good.test:{internet.http}/to"
    allowed, refused = f"http://good.test:{internet.http}/there", f"http://elsewhere.test:{internet.http}/there"
    told = home.person("alice", "execute").run(
        "puppet", ["by_urllib", "GET", f"{start}/{allowed}"], ["by_urllib", "GET", f"{start}/{refused}"]
    )
    assert told[0] == {"status": 200, "body": "GET /there"}
    assert (told[1]["status"], "no_rule" in told[1]["body"]) == (403, True)
    scopes = [each["scope"] for each in home.decided(subject="plugin:puppet", kind="network")]
    host = f"good.test:{internet.http}"
    assert scopes == [host, host, host, f"elsewhere.test:{internet.http}"]


def test_a_broken_answer_of_a_server_is_told_as_one(travel: Travel, internet: "Internet") -> None:
    home = travel()
    # The echo answers with the request itself, which is no answer.
    host = f"good.test:{internet.echo}"
    (told,) = home.person("alice", "execute").run(
        "puppet", ["raw", f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"]
    )
    assert told.startswith("HTTP/1.1 502 ")


def test_large_answers_and_bodies_pass_whole(travel: Travel, internet: "Internet") -> None:
    home = travel()
    size = 5_000_000
    urls = [f"{scheme}://good.test:{port}/large/{size}" for scheme, port in internet.doors]
    told = home.person("alice", "execute").run("puppet", *[["size", each, size] for each in urls])
    assert told == [size, size]
    assert [len(each) > size for each in internet.asked] == [True, True]
