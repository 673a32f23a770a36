"""What code asks of `ctx` by name, beside what its manifest requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from gateway.domain.manifest import Manifest, RequestedPermission
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.scope import canonical_scope, covers, covers_pattern
from gateway.errors import MalformedError

# What each call of `ctx` asks, and the argument that its scope is made of.
_ASKS: Mapping[str, tuple[Kind, Level, str]] = {
    "vault.read": (Kind.VAULT, Level.READ, "scope"),
    "vault.list": (Kind.VAULT, Level.READ, "scope"),
    "vault.write": (Kind.VAULT, Level.WRITE, "scope"),
    "vault.delete": (Kind.VAULT, Level.WRITE, "scope"),
    "files.read": (Kind.FILE, Level.READ, "path"),
    "files.list": (Kind.FILE, Level.READ, "path"),
    "files.write": (Kind.FILE, Level.WRITE, "path"),
    "http.get": (Kind.NETWORK, Level.READ, "url"),
    "http.head": (Kind.NETWORK, Level.READ, "url"),
    "http.post": (Kind.NETWORK, Level.WRITE, "url"),
    "http.put": (Kind.NETWORK, Level.WRITE, "url"),
    "http.patch": (Kind.NETWORK, Level.WRITE, "url"),
    "http.delete": (Kind.NETWORK, Level.WRITE, "url"),
    "system.info": (Kind.SYSTEM, Level.READ, "topic"),
    "system.run": (Kind.SYSTEM, Level.EXECUTE, "argv"),
    "plugins.call": (Kind.PLUGIN, Level.EXECUTE, "plugin_id"),
    "user.get": (Kind.USER, Level.READ, "name"),
    "user.set": (Kind.USER, Level.WRITE, "name"),
    "core.get": (Kind.CORE, Level.READ, "topic"),
}
_WITH_METHOD = {"http.request": (Kind.NETWORK, 0), "api.call": (Kind.API, 1)}  # and where the method stands
_READING = frozenset({"GET", "HEAD"})
_CLIENTS = frozenset({"urllib", "http", "requests", "httpx", "aiohttp", "urllib3", "socket", "asyncio", "websockets"})
_WEB_PORTS = frozenset({80, 443})


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One call of `ctx` in the code; `kind` is None where it is no call that asks."""

    file: str
    line: int
    name: str
    kind: Kind | None
    level: Level
    scope: str | None  # None where it is no literal

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Take what the reading of the source gave."""
        name = f"{found['family']}.{found['verb']}"
        args, named = found["args"], found["named"]
        place = (found["file"], found["line"], name)
        if name in _ASKS:
            kind, level, argument = _ASKS[name]
            return cls._made(place, kind, level, named.get(argument, args[0] if args else None))
        if name in _WITH_METHOD:
            kind, at = _WITH_METHOD[name]
            method = named.get("method", args[at] if len(args) > at else None)
            reads = not isinstance(method, str) or method.upper() in _READING
            return cls._made(place, kind, Level.READ if reads else Level.WRITE, _target(name, args, named))
        return cls(file=place[0], line=place[1], name=name, kind=None, level=Level.READ, scope=None)

    @classmethod
    def _made(cls, place: tuple[str, int, str], kind: Kind, level: Level, literal: object) -> Self:
        text = literal[0] if isinstance(literal, list) else literal
        if not isinstance(text, str) or (kind is Kind.SYSTEM and level is Level.EXECUTE and not text.startswith("/")):
            text = None  # a name is looked up on the host that runs it
        elif kind is Kind.NETWORK:
            text = _host(text)
        return cls(file=place[0], line=place[1], name=place[2], kind=kind, level=level, scope=text)


def uncovered(use: Use, manifest: Manifest) -> str | None:
    """Tell why a use would be denied whatever is approved, None if it would not."""
    if use.kind is None:
        return None
    permission = Permission(use.kind, use.level)
    fitting = [each for each in manifest.permissions if _grants(each, use.kind, use.level)]
    if not fitting:
        return f"`ctx.{use.name}` needs `{permission}`, which the manifest does not request"
    if use.scope is None:
        return None
    try:
        scope = canonical_scope(use.kind, use.scope)
    except MalformedError as error:
        return f"`ctx.{use.name}`: {error}"
    if any(each.scope is not None and covers(each.scope, scope) for each in fitting):
        return None
    asked = ", ".join(f"`{each.scope}`" for each in fitting if each.scope is not None) or "nothing"
    return f"`ctx.{use.name}` is about `{scope}`; of `{permission}` the manifest requests {asked}"


def unused(manifest: Manifest, uses: Sequence[Use], imports: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Give the place and the sentence of each permission that nothing in the code seems to need."""
    requested = sum(not each.optional for each in manifest.permissions)
    for number, each in enumerate(manifest.permissions):
        if _is_used(each, manifest, uses, imports):
            continue
        place = (
            f"requested_permissions[{number}]" if number < requested else f"optional_permissions[{number - requested}]"
        )
        yield place, f"nothing in the code seems to need `{each.permission}` on `{each.scope}`"


def _is_used(asked: RequestedPermission, manifest: Manifest, uses: Sequence[Use], imports: frozenset[str]) -> bool:
    kind, wanted = asked.permission.kind, asked.scope
    if wanted is None:
        return True  # WHY: told already, as one that grants nothing.
    by_client = kind is Kind.NETWORK and imports & _CLIENTS
    by_open = kind is Kind.FILE and any(covers_pattern(wanted, each) for each in manifest.file_access)
    required = any(
        permission.kind is kind and _grants(asked, kind, permission.level) and covers(wanted, scope)
        for capability in manifest.capabilities
        for permission, scope in capability.requires
    )
    listing = kind is Kind.PLUGIN and any(use.name == "plugins.list" for use in uses)
    return bool(by_client or by_open or required or listing) or any(
        use.kind is kind and _grants(asked, kind, use.level) and (use.scope is None or _covers(wanted, kind, use.scope))
        for use in uses
    )


def _covers(pattern: str, kind: Kind, scope: str) -> bool:
    try:
        return covers(pattern, canonical_scope(kind, scope))
    except MalformedError:
        return False


def _grants(asked: RequestedPermission, kind: Kind, level: Level) -> bool:
    return asked.permission.kind is kind and asked.permission.level >= level


def _target(name: str, args: Sequence[Any], named: Mapping[str, Any]) -> object:
    if name == "http.request":
        return named.get("url", args[1] if len(args) > 1 else None)
    upstream = named.get("upstream", args[0] if args else None)
    path = named.get("path", args[2] if len(args) > 2 else None)  # noqa: PLR2004 (upstream, method, path)
    if not isinstance(upstream, str) or not isinstance(path, str):
        return None
    return f"{upstream}/{path.partition('?')[0].strip('/')}".rstrip("/")


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if host is None:
        return url
    host = f"[{host}]" if ":" in host else host
    return host if port is None or port in _WEB_PORTS else f"{host}:{port}"
