"""Scopes: canonical form of what is asked for, and the one matcher of patterns."""

import ipaddress
import re
import unicodedata
from collections.abc import Callable

import idna

from gateway.domain.permission import Kind
from gateway.errors import MalformedError

MAX_SCOPE_CHARS = 1024
_DEFAULT_PORTS = frozenset({80, 443})
_MAX_PORT = 65535
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMERIC_HOST = re.compile(r"(?:0x[0-9a-f]*|\d+)\Z")
_UPSTREAM = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


def covers(pattern: str, scope: str) -> bool:
    """Tell whether `pattern` (exact, `a/b/*`, `*.example.com` or `*`) covers the canonical `scope`."""
    if pattern == "*":
        return True
    if pattern.endswith("/*"):
        prefix = pattern[:-2]
        return scope == prefix or scope.startswith(prefix + "/")
    if pattern.startswith("*."):
        return scope.endswith(pattern[1:]) and len(scope) > len(pattern) - 1
    return pattern == scope


def covers_pattern(pattern: str, other: str) -> bool:
    """Tell whether `pattern` covers everything that `other`, a scope or a pattern, covers."""
    if other.endswith("/*"):
        return pattern == "*" or (pattern.endswith("/*") and covers(pattern, other[:-2]))
    if other.startswith("*."):
        return pattern == "*" or (pattern.startswith("*.") and other.endswith(pattern[1:]))
    return pattern == "*" or (other != "*" and covers(pattern, other))


def canonical_scope(kind: str, text: str) -> str:
    """Give the one spelling of what is asked for.

    Ids of kinds other than the families and `gateway` are opaque and only checked for odd characters.

    Raises:
        MalformedError: it has none.

    """
    _refuse_odd_characters(text)
    canonical = _CANONICAL.get(kind)
    return canonical(text) if canonical is not None else text


def is_canonical(kind: str, text: str) -> bool:
    """Tell whether a request for `kind` is spelt as it must be; ids of other kinds only hold no `*`."""
    look = _IS_PLAIN.get(kind)
    if look is None:
        return "*" not in text
    # WHY: nearly every request is plain ASCII, and finding the canonical spelling is ten times dearer.
    if text.isascii() and text.isprintable() and len(text) <= MAX_SCOPE_CHARS and look(text):
        return True
    try:
        return canonical_scope(kind, text) == text
    except MalformedError:
        return False


def is_plain_pattern(kind: str, text: str) -> bool:
    """Tell whether `text` is surely a canonical pattern; False says nothing."""
    look = _IS_PLAIN_PATTERN.get(kind)
    return look is not None and len(text) <= MAX_SCOPE_CHARS and look(text) is not None


def canonical_pattern(kind: str, text: str) -> str:
    """Give the one spelling of a rule's scope: a canonical scope, `*`, `<scope>/*` or `*.<host>`.

    Raises:
        MalformedError: no request could ever be covered by it.

    """
    if text == "*" or is_plain_pattern(kind, text):
        return text
    if text.startswith("*."):
        if kind not in {Kind.NETWORK, Kind.API}:
            raise MalformedError(f"scope `{text}`: `*.` is for hosts, and {kind} has none")
        return "*." + canonical_scope(Kind.NETWORK, text[2:])
    if text.endswith("/*"):
        if kind == Kind.NETWORK:
            raise MalformedError(f"scope `{text}`: a network scope is `host`, `host:port` or `*.host`")
        if text == "/*" and kind == Kind.FILE:
            return text
        return canonical_scope(kind, text[:-2]) + "/*"
    return canonical_scope(kind, text)


def _refuse_odd_characters(text: str) -> None:
    if not text:
        raise MalformedError("an empty scope", way_out="name what is asked for")
    if len(text) > MAX_SCOPE_CHARS:
        raise MalformedError(f"a scope of {len(text)} characters", way_out=f"at most {MAX_SCOPE_CHARS}")
    if "*" in text:
        raise MalformedError(f"scope `{text}`: `*` stands for nothing in a request")
    if text.isascii() and text.isprintable():
        return
    # SECURITY: bidirectional and zero-width marks (Cf) make two scopes look the same to a person.
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text):
        raise MalformedError("a scope with control or invisible characters")
    if unicodedata.normalize("NFC", text) != text:
        raise MalformedError(f"scope `{text}` is not in Unicode normal form NFC")


def _file(text: str) -> str:
    if not text.startswith("/"):
        raise MalformedError(f"file scope `{text}`: an absolute path is needed")
    return "/" + _segments(text[1:], text) if text != "/" else text


def _relative(text: str) -> str:
    if text.startswith("/"):
        raise MalformedError(f"scope `{text}`: a relative path is needed")
    return _segments(text, text)


def _system(text: str) -> str:
    return _file(text) if text.startswith("/") else _relative(text)


def _segments(path: str, whole: str) -> str:
    if any(segment in {"", ".", ".."} for segment in path.split("/")):
        raise MalformedError(f"scope `{whole}`: no `.`, `..` or empty segments")
    return path


def _network(text: str) -> str:
    host, port = split_host_port(text)
    literal = f"[{host}]" if ":" in host else host
    return literal if port is None or port in _DEFAULT_PORTS else f"{literal}:{port}"


def _api(text: str) -> str:
    upstream, slash, path = text.partition("/")
    if not slash:
        return text if _UPSTREAM.match(text) else _network(text)
    if not _UPSTREAM.match(upstream):
        raise MalformedError(f"api scope `{text}`: `upstream/path` or a host")
    return f"{upstream}/{_segments(path, text)}"


def split_host_port(text: str) -> tuple[str, int | None]:
    """Take `host`, `host:port` or `[v6]:port` apart, the host in lower-case IDNA, v6 compressed.

    Raises:
        MalformedError: it names no host, or spells one in a way that two readers may read differently.

    """
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or "%" in inside:
            # SECURITY: a zone (`%eth0`) names a link of this host, and two spellings of one address.
            raise MalformedError(f"host `{text}`: an IPv6 address in brackets, without a zone")
        try:
            return ipaddress.IPv6Address(inside).compressed, _port(rest, text)
        except ValueError:
            raise MalformedError(f"host `{text}`: not an IPv6 address") from None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise MalformedError(f"host `{text}`: write an IPv6 address in brackets")
    return _host_name(host, text), _port(colon + port, text)


def _port(text: str, whole: str) -> int | None:
    if not text:
        return None
    digits = text[1:]
    if text[0] != ":" or not (digits.isascii() and digits.isdigit()) or digits.startswith("0"):
        raise MalformedError(f"host `{whole}`: the port is a number from 1 to {_MAX_PORT}")
    port = int(digits[:6])
    if port > _MAX_PORT:
        raise MalformedError(f"host `{whole}`: the port is a number from 1 to {_MAX_PORT}")
    return port


def _host_name(host: str, whole: str) -> str:
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise MalformedError(f"host `{whole}`: {error}") from None
    labels = name.split(".")
    if _NUMERIC_HOST.match(labels[-1]):
        # SECURITY: `0177.1`, `2130706433` and `0x7f.1` are 127.0.0.1 to some readers and names to others.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise MalformedError(f"host `{whole}`: not an IPv4 address in its usual spelling") from None
    if len(name) > 253 or not all(_HOST_LABEL.match(label) for label in labels):  # noqa: PLR2004 (RFC 1035, 2.3.4)
        raise MalformedError(f"host `{whole}`: not a host name")
    return name


_CANONICAL: dict[str, Callable[[str], str]] = {
    Kind.VAULT: _relative,
    Kind.CORE: _relative,
    Kind.NETWORK: _network,
    Kind.FILE: _file,
    Kind.SYSTEM: _system,
    Kind.API: _api,
    Kind.PLUGIN: _relative,
    Kind.USER: _relative,
    Kind.GATEWAY: _relative,
}

# One segment: printable ASCII without `/` and `*`, and neither `.` nor `..`.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[ -)+-.0-~]+"
_HOST = r"(?=[^/]{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z_][a-z0-9_-]{0,62}(?<!-)"
_PLAIN_PATH = re.compile(r"(?!\.{0,2}(?:/|\Z))[^/*]+(?:/(?!\.{0,2}(?:/|\Z))[^/*]+)*\Z").match
_PLAIN_FILE = re.compile(r"(?:/(?!\.{0,2}(?:/|\Z))[^/*]+)+\Z").match
_PLAIN_HOST = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z_][a-z0-9_-]{0,62}(?<!-)\Z").match
_PLAIN_API = re.compile(r"[a-z0-9][a-z0-9._-]*(?:(?:/(?!\.{0,2}(?:/|\Z))[^/*]+)+)?\Z").match
# What is surely canonical, if it is printable ASCII; for the rest there is `canonical_scope`.
_IS_PLAIN: dict[str, Callable[[str], object]] = {
    Kind.VAULT: _PLAIN_PATH,
    Kind.CORE: _PLAIN_PATH,
    Kind.NETWORK: _PLAIN_HOST,
    Kind.FILE: _PLAIN_FILE,
    Kind.SYSTEM: lambda text: _PLAIN_FILE(text) or _PLAIN_PATH(text),
    Kind.API: _PLAIN_API,
    Kind.PLUGIN: _PLAIN_PATH,
    Kind.USER: _PLAIN_PATH,
    Kind.GATEWAY: _PLAIN_PATH,
}


def _plain_patterns() -> dict[str, Callable[[str], re.Match[str] | None]]:
    path, file = rf"{_SEGMENT}(?:/{_SEGMENT})*(?:/\*)?", rf"(?:/{_SEGMENT})+(?:/\*)?"
    api = rf"(?:[a-z0-9][a-z0-9._-]*(?:/{_SEGMENT})*(?:/\*)?|\*\.{_HOST})"
    others = {
        Kind.NETWORK: rf"(?:\*\.)?{_HOST}",
        Kind.FILE: file,
        Kind.SYSTEM: rf"(?:{file}|{path})",
        Kind.API: api,
    }
    return {kind: re.compile(rf"(?:{others.get(Kind(kind), path)})\Z").match for kind in _CANONICAL}


# What is surely a canonical pattern.
_IS_PLAIN_PATTERN = _plain_patterns()
