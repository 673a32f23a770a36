"""Deeds: everything that a plugin can ask for, how it is judged, and what doing it means."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from gateway.domain.decision import Effect
from gateway.domain.exact_call import ExactCall
from gateway.domain.lifecycle import State
from gateway.domain.names import parse_plugin_id
from gateway.domain.permission import Kind, Level
from gateway.domain.request import AccessRequest, Json
from gateway.domain.scope import canonical_scope
from gateway.errors import MalformedError, UnavailableError
from gateway.flows.asking import Args, Asking, Peer, Value
from gateway.flows.decide import Context
from gateway.flows.parts import Parts
from gateway.resources.api import parse_api_request
from gateway.resources.headers import level_of
from gateway.resources.network import HttpReply, HttpRequest
from gateway.resources.url import parse_url

MAX_CHAIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What a plugin asks for: how it is judged, and what doing it means once it is allowed."""

    kind: Kind
    level: Level
    scope: str
    do: Callable[[Asking], Awaitable[Value]]
    looks: bool = False  # it shows names alone, each judged anew, and so uses up no consent
    peer: Peer | None = None  # the other machine, where there is one


def _vault_read(args: Args, _asking: Asking) -> Deed:
    scope = canonical_scope(Kind.VAULT, args.text("scope"))

    async def do(asking: Asking) -> Value:
        return Value(value=await asyncio.to_thread(asking.parts.resources.vault.read, asking.user, scope))

    return Deed(kind=Kind.VAULT, level=Level.READ, scope=scope, do=do)


def _vault_list(args: Args, _asking: Asking) -> Deed:
    scope = canonical_scope(Kind.VAULT, args.text("scope"))

    async def do(asking: Asking) -> Value:
        names = await asyncio.to_thread(asking.parts.resources.vault.list, asking.user, scope)
        return await asking.readable(Kind.VAULT, {name: name for name in names})

    return Deed(kind=Kind.VAULT, level=Level.READ, scope=scope, do=do, looks=True)


def _vault_write(args: Args, _asking: Asking) -> Deed:
    scope, value = canonical_scope(Kind.VAULT, args.text("scope")), args.value("value")

    async def do(asking: Asking) -> Value:
        await asyncio.to_thread(asking.parts.resources.vault.write, asking.user, scope, value)
        return Value()

    return Deed(kind=Kind.VAULT, level=Level.WRITE, scope=scope, do=do)


def _vault_delete(args: Args, _asking: Asking) -> Deed:
    scope = canonical_scope(Kind.VAULT, args.text("scope"))

    async def do(asking: Asking) -> Value:
        await asyncio.to_thread(asking.parts.resources.vault.delete, asking.user, scope)
        return Value()

    return Deed(kind=Kind.VAULT, level=Level.WRITE, scope=scope, do=do)


def _files_read(args: Args, asking: Asking) -> Deed:
    path = asking.parts.resources.files.resolve(args.text("path"))

    async def do(asking: Asking) -> Value:
        return Value(blob=await asyncio.to_thread(asking.parts.resources.files.read, path))

    return Deed(kind=Kind.FILE, level=Level.READ, scope=canonical_scope(Kind.FILE, str(path)), do=do)


def _files_list(args: Args, asking: Asking) -> Deed:
    path = asking.parts.resources.files.resolve(args.text("path"))

    async def do(asking: Asking) -> Value:
        names = await asyncio.to_thread(asking.parts.resources.files.list, path)
        return await asking.readable(Kind.FILE, {name: str(path / name) for name in names})

    return Deed(kind=Kind.FILE, level=Level.READ, scope=canonical_scope(Kind.FILE, str(path)), do=do, looks=True)


def _files_write(args: Args, asking: Asking) -> Deed:
    path, data = asking.parts.resources.files.resolve(args.text("path")), args.blob

    async def do(asking: Asking) -> Value:
        await asyncio.to_thread(asking.parts.resources.files.write, path, data)
        return Value()

    return Deed(kind=Kind.FILE, level=Level.WRITE, scope=canonical_scope(Kind.FILE, str(path)), do=do)


def _http_request(args: Args, _asking: Asking) -> Deed:
    # SECURITY: as it is written: a rule may look at `args.method`, and `delete` must not pass for another than DELETE.
    method, url = args.text("method"), parse_url(args.text("url"))
    headers, body = args.headers(), args.blob
    level = level_of(method)

    async def do(asking: Asking) -> Value:
        asked = asking.requests(Kind.NETWORK, level, url.scope)
        private_ok = all(names_private(asking.parts, each) for each in asked)
        sent = dict(asking.traced(headers.items()))
        wanted = HttpRequest(
            method=method, url=url, headers=sent, body=body, asker=asking.plugin.id, count=asking.count
        )
        reply = await asking.parts.resources.network.request(wanted, private_ok=private_ok)
        return _answer(asking, reply)

    peer = Peer(method=method, host=url.host, port=url.port, path=url.target.partition("?")[0])
    return Deed(kind=Kind.NETWORK, level=level, scope=url.scope, do=do, peer=peer)


def _answer(asking: Asking, reply: HttpReply) -> Value:
    asking.note_status(reply.status)
    pairs: list[Json] = [[name, value] for name, value in reply.headers]
    return Value(value={"status": reply.status, "headers": pairs}, blob=reply.body)


def names_private(parts: Parts, request: AccessRequest) -> bool:
    """Tell whether a rule that a person wrote lets this plugin reach the scope, naming it to the letter."""
    policy = parts.policy.get()
    return policy is not None and any(
        rule.effect is Effect.ALLOW and not rule.is_grant and rule.scope == request.scope
        for rule in policy.candidates(request)
    )


def _system_info(args: Args, _asking: Asking) -> Deed:
    topic = canonical_scope(Kind.SYSTEM, args.text("topic"))

    async def do(asking: Asking) -> Value:
        return Value(value=await asyncio.to_thread(asking.parts.resources.system.info, topic))

    return Deed(kind=Kind.SYSTEM, level=Level.READ, scope=topic, do=do)


def _system_run(args: Args, asking: Asking) -> Deed:
    argv = args.texts("argv")
    if not argv:
        raise MalformedError("`argv`: name a program")
    program = asking.parts.resources.system.resolve_program(argv[0])

    async def do(asking: Asking) -> Value:
        asking.count(sum(len(word.encode("utf-8", "replace")) for word in argv), 0)
        ended = await asking.parts.resources.system.run([program, *argv[1:]], asker=asking.plugin.id)
        asking.count(0, len(ended.stdout) + len(ended.stderr))
        return Value(
            value={
                "exit_status": ended.exit_status,
                "stdout": base64.b64encode(ended.stdout).decode("ascii"),
                "stderr": base64.b64encode(ended.stderr).decode("ascii"),
                "timed_out": ended.timed_out,
                "truncated": ended.truncated,
            }
        )

    return Deed(kind=Kind.SYSTEM, level=Level.EXECUTE, scope=canonical_scope(Kind.SYSTEM, program), do=do)


def _api_call(args: Args, asking: Asking) -> Deed:
    wanted = parse_api_request(args.text("upstream"), args.text("method"), args.text("path"), args.headers(), args.blob)

    async def do(asking: Asking) -> Value:
        sent = replace(wanted, headers=dict(asking.traced(wanted.headers.items())))
        reply = await asking.parts.resources.api.call(sent, asker=asking.plugin.id, count=asking.count)
        return _answer(asking, reply)

    url = asking.parts.resources.api.url_of(wanted.upstream)
    peer = (
        None
        if url is None
        else Peer(method=wanted.method, host=url.host, port=url.port, path=wanted.target.partition("?")[0])
    )
    return Deed(kind=Kind.API, level=wanted.level, scope=wanted.scope, do=do, peer=peer)


def _user_get(args: Args, _asking: Asking) -> Deed:
    name = canonical_scope(Kind.USER, args.text("name"))

    async def do(asking: Asking) -> Value:
        return Value(value=await asyncio.to_thread(asking.parts.resources.users.get, asking.user, name))

    return Deed(kind=Kind.USER, level=Level.READ, scope=name, do=do)


def _user_set(args: Args, _asking: Asking) -> Deed:
    name, value = canonical_scope(Kind.USER, args.text("name")), args.value("value")

    async def do(asking: Asking) -> Value:
        await asyncio.to_thread(asking.parts.resources.users.set, asking.user, name, value)
        return Value()

    return Deed(kind=Kind.USER, level=Level.WRITE, scope=name, do=do)


def _core_get(args: Args, _asking: Asking) -> Deed:
    topic = canonical_scope(Kind.CORE, args.text("topic"))

    async def do(asking: Asking) -> Value:
        return Value(value=asking.parts.resources.core.get(topic))

    return Deed(kind=Kind.CORE, level=Level.READ, scope=topic, do=do)


def _plugins_list(_args: Args, asking: Asking) -> Deed:
    async def do(asking: Asking) -> Value:
        active = [each.id for each in asking.parts.registry.plugins.all() if each.state is State.ACTIVE]
        return await asking.readable(Kind.PLUGIN, {each: each for each in active})

    return Deed(kind=Kind.PLUGIN, level=Level.READ, scope=asking.plugin.id, do=do, looks=True)


def _plugins_call(args: Args, _asking: Asking) -> Deed:
    plugin_id = parse_plugin_id(args.text("id"))
    payload = args.value("payload")
    if not isinstance(payload, dict):
        raise MalformedError("`payload`: an object is needed")

    async def do(asking: Asking) -> Value:
        chain = asking.subjects
        if plugin_id in chain or len(chain) >= MAX_CHAIN:
            raise MalformedError(f"`{plugin_id}` cannot be called from here: a circle, or more than {MAX_CHAIN} deep")
        batch = payload.get("batch")
        # SECURITY: each call of a batch writes records, so each is a question of the one that asks for it all.
        if isinstance(batch, list) and asking.call.asks is not None and not asking.call.asks.take_some(len(batch) - 1):
            raise MalformedError("overloaded: a batch of more calls than this call has questions left")
        call = replace(asking.call, plugin_id=plugin_id, payload=payload, chain=asking.running)
        context = Context(
            session_id=call.session_id,
            args=payload,
            trace_id=call.trace_id,
            exact=ExactCall(op="execute", args=payload, by=call.by, chain=chain, running=asking.running),
        )
        ended = await asking.run_plugin(call, context)
        if not ended.result.success:
            raise UnavailableError(f"`{plugin_id}` {ended.result.outcome.value}: {ended.result.error}")
        return Value(value=ended.output)

    return Deed(kind=Kind.PLUGIN, level=Level.EXECUTE, scope=plugin_id, do=do)


DEEDS: Mapping[str, Callable[[Args, Asking], Deed]] = {
    "vault.read": _vault_read,
    "vault.list": _vault_list,
    "vault.write": _vault_write,
    "vault.delete": _vault_delete,
    "files.read": _files_read,
    "files.list": _files_list,
    "files.write": _files_write,
    "http.request": _http_request,
    "system.info": _system_info,
    "system.run": _system_run,
    "api.call": _api_call,
    "user.get": _user_get,
    "user.set": _user_set,
    "core.get": _core_get,
    "plugins.list": _plugins_list,
    "plugins.call": _plugins_call,
}
