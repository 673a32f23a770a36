import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.permission import Kind
from gateway.domain.scope import canonical_scope
from gateway.errors import HearthgateError, MalformedError
from gateway.resources.url import parse_url


@pytest.mark.parametrize(
    ("text", "scope", "port", "target", "authority"),
    [
        ("http://example.com", "example.com", 80, "/", "example.com"),
        ("HTTPS://EXAMPLE.com./a?b=c", "example.com", 443, "/a?b=c", "example.com"),
        ("https://example.com?q", "example.com", 443, "/?q", "example.com"),
        ("http://example.com:443/", "example.com", 443, "/", "example.com:443"),
        ("http://example.com:8080//x", "example.com:8080", 8080, "//x", "example.com:8080"),
        ("http://b\u00fccher.example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("http://[::1]:81/", "[::1]:81", 81, "/", "[::1]:81"),
        ("http://[0:0::1]/", "[::1]", 80, "/", "[::1]"),
        ("http://127.0.0.1:9/%2e%2e/", "127.0.0.1:9", 9, "/%2e%2e/", "127.0.0.1:9"),
        ("http://example.com/a@b:c", "example.com", 80, "/a@b:c", "example.com"),
    ],
)
def test_a_url_is_read_in_one_way(text: str, scope: str, port: int, target: str, authority: str) -> None:
    url = parse_url(text)
    assert (url.scope, url.port, url.target, url.authority) == (scope, port, target, authority)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http:/example.com",
        "http:///path",
        "http://",
        "http://?x",
        "http://:80/",
        "http://example.com:/",
        "http://example.com:0/",
        "http://example.com:080/",
        "http://example.com:65536/",
        "http://example.com:+80/",
        "http://example.com:\u0661/",
        "http://user@example.com/",
        "http://user:pw@example.com/",
        "http://good.example@evil.example/",
        "http://good.example\\@evil.example/",
        "http://good.example#@evil.example/",
        "http://example.com/#fragment",
        "http://example.com#fragment",
        "http://example.com\\x",
        "http://example.com/a\\b",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/ ",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Evil: 1",
        "http://example.com\r\n/",
        "http://example.com\t/",
        "http://example.com\0/",
        "http://example.com/\0",
        "http://example%2ecom/",
        "http://example.com/%",
        "http://example.com/%g0",
        "http://example.com/\u00fc",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.1/",
        "http://127.0.0.1.example.0x1/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[127.0.0.1]/",
        "http://a..b/",
        "http://.example.com/",
        "http://example.com../",
        "http://*.example.com/",
        "http://a,b/",
        "http://" + "a" * 64 + ".com/",
        "http://example.com/" + "a" * 9000,
    ],
)
def test_a_url_that_two_readers_could_read_differently_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
        "http://127\u30020\u30020\u30021/",
        "http://\uff11\uff12\uff17.0.0.1/",
    ],
)
def test_digits_in_disguise_are_the_address_they_mean(text: str) -> None:
    assert parse_url(text).scope == "127.0.0.1"


@given(
    st.text(max_size=60).map(lambda text: f"http://{text}")
    | st.from_regex(r"https?://[^/]{1,30}(/.*)?", fullmatch=True)
)
def test_what_is_read_is_canonical_and_fit_to_be_sent(text: str) -> None:
    try:
        url = parse_url(text)
    except HearthgateError:
        return
    assert canonical_scope(Kind.NETWORK, url.scope) == url.scope
    assert parse_url(str(url)) == url
    sent = f"{url.authority}{url.target}"
    assert sent.isascii()
    assert sent.isprintable()
    assert " " not in sent
