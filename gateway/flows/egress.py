"""To let a plugin's ordinary HTTP out: each connection of its relay is decided, recorded, and only then carried."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.domain.decision import Decision, Effect
from gateway.domain.names import plugin_subject
from gateway.domain.permission import Kind, Level
from gateway.domain.request import Json
from gateway.domain.scope import canonical_scope, split_host_port
from gateway.errors import DeniedError, HearthgateError, MalformedError, UnavailableError
from gateway.executor.egress import Carried, Carry
from gateway.executor.far import Far, Outgoing
from gateway.executor.head import Head
from gateway.executor.line import Line, Refusal
from gateway.flows.asking import Asking, Peer
from gateway.flows.decide import Context
from gateway.flows.deeds import names_private
from gateway.flows.metering import metered
from gateway.flows.parts import Parts
from gateway.flows.refusal import violation
from gateway.flows.use_resource import decide_all, overspent
from gateway.policy.encode import encode_field
from gateway.policy.rule import EVERY
from gateway.policy.suggest import way_in
from gateway.registry.plugins import Plugin
from gateway.resources.headers import check_pairs, level_of
from gateway.resources.url import Url, parse_url

_NETWORK = frozenset({Kind.NETWORK.value, EVERY})
_NOT_SENT_ON = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where a connection is to lead: a tunnel to a host and port, or one plain request."""

    op: str
    level: Level
    host: str
    port: int
    scope: str
    args: Mapping[str, Json]  # as a rule's condition sees them
    outgoing: Outgoing | None  # None: a tunnel
    peer: Peer


def needs_relay(parts: Parts, plugin: Plugin) -> bool:
    """Tell whether a plugin's cells have a relay: its manifest asks for network, or a rule gives it some.

    WHY: who asked and was not granted is told no with a reason, and it is recorded; who never spoke of the network
    has no socket at all.
    """
    if any(each.permission.kind is Kind.NETWORK for each in plugin.manifest.permissions):
        return True
    policy = parts.policy.get()
    if policy is None:
        return False
    subjects = policy.roles.closure(encode_field(plugin_subject(plugin.id)))
    return any(
        rule.effect is Effect.ALLOW and rule.kind in _NETWORK for each in subjects for rule in policy.rules_of(each)
    )


def carrying_as(asking: Asking) -> Carry:
    """Give the function that carries the connections of one cell; who asks is fixed here."""

    async def carry(line: Line) -> Carried:
        op, decision = "egress", None
        try:
            head = await line.read_head()
            if head is None:
                return Carried()
            if (bound := overspent(asking)) is not None:
                return Carried(refusal=Refusal(status=429, phrase=bound))
            wanted = wanted_of(head)
            op, decision = wanted.op, await _decide(asking, wanted)
            if not decision.allowed:
                return Carried(refusal=_denial(decision), note=_note(op, decision, ok=False))
            await _let_through(asking, wanted, line, decision)
        except HearthgateError as error:
            return Carried(refusal=_refusal(error, decision), note=_note(op, decision, ok=False))
        except Exception as error:  # noqa: BLE001 (whatever goes wrong here, the plugin gets nothing)
            surprise = HearthgateError(f"the gateway could not do it ({type(error).__name__})")
            return Carried(refusal=_refusal(surprise, decision), note=_note(op, decision, ok=False))
        return Carried(note=_note(op, decision, ok=True))

    return carry


def wanted_of(head: Head) -> Wanted:
    """Say where a request leads.

    Raises:
        MalformedError: that cannot be told, or two readers could tell it differently.
    """
    return _tunnel(head) if head.method == "CONNECT" else _plain(head)


def _tunnel(head: Head) -> Wanted:
    scope = canonical_scope(Kind.NETWORK, head.target)
    host, port = split_host_port(head.target)
    if port is None:
        raise MalformedError("a CONNECT without a port", way_out="write CONNECT host:port")
    _check_host(head, host, port, default=port)
    # WHY: write, for what goes through a tunnel cannot be seen.
    return Wanted(
        op="egress.connect",
        level=Level.WRITE,
        host=host,
        port=port,
        scope=scope,
        args={"method": "CONNECT"},
        outgoing=None,
        peer=Peer(method="CONNECT", host=host, port=port, path=""),
    )


def _plain(head: Head) -> Wanted:
    url, level = parse_url(head.target), level_of(head.method)
    if url.scheme != "http":
        raise MalformedError("an https URL in a plain request", way_out="use CONNECT")
    if head.host is None:
        raise MalformedError("a request without a host")
    _check_host(head, url.host, url.port, default=80)
    if level is Level.READ and head.has_body:
        raise MalformedError(f"a {head.method} with a body", way_out="send it with another method")
    return Wanted(
        op="egress.request",
        level=level,
        host=url.host,
        port=url.port,
        scope=url.scope,
        args={"method": head.method, "url": str(url)},
        outgoing=Outgoing(method=head.method, target=url.target, headers=_headers(head, url)),
        peer=Peer(method=head.method, host=url.host, port=url.port, path=url.target.partition("?")[0]),
    )


def _check_host(head: Head, host: str, port: int, *, default: int) -> None:
    if head.host is None:
        return
    named, at = split_host_port(head.host)
    # SECURITY: who looks at one and who looks at the other must see the same.
    if (named, default if at is None else at) != (host, port):
        raise MalformedError("the Host header names another host than the request")


def _headers(head: Head, url: Url) -> list[tuple[str, str]]:
    sent = check_pairs([(name, value) for name, value in head.headers if name not in _NOT_SENT_ON])
    own = [("host", url.authority), ("connection", "close")]
    if head.chunked:
        own.append(("transfer-encoding", "chunked"))
    elif level_of(head.method) is Level.WRITE:
        own.append(("content-length", next(iter(head.values("content-length")), "0")))
    return [*own, *sent]


async def _decide(asking: Asking, wanted: Wanted) -> Decision:
    context = Context(
        session_id=asking.call.session_id,
        args=wanted.args,
        trace_id=asking.call.trace_id,
        execution_id=asking.execution_id,
        shows_way_in=True,
    )
    asked = asking.requests(Kind.NETWORK, wanted.level, wanted.scope)
    return await decide_all(asking, wanted.op, asked, context)


async def _let_through(asking: Asking, wanted: Wanted, line: Line, decision: Decision) -> None:
    try:
        with metered(asking, wanted.op, wanted.peer, decision) as passage:
            await _connect(replace(asking, passage=passage), wanted, line)
    except DeniedError as error:
        await _record_address(asking, decision, error)
        raise


async def _connect(asking: Asking, wanted: Wanted, line: Line) -> None:
    asked = asking.requests(Kind.NETWORK, wanted.level, wanted.scope)
    private_ok = all(names_private(asking.parts, each) for each in asked)
    network = asking.parts.resources.network
    async with network.connect(wanted.host, wanted.port, private_ok=private_ok, asker=asking.plugin.id) as ends:
        far = Far(*ends, asking.count)
        if wanted.outgoing is None:
            await line.tunnel(far)
        else:
            await line.exchange(wanted.outgoing, far, asking.note_status)


async def _record_address(asking: Asking, decision: Decision, error: DeniedError) -> None:
    """Record that a host that was allowed leads where plugins may not go."""
    personal: dict[str, Json] = {"host": decision.request.scope}
    if error.way_out is not None:
        personal["would_allow"] = way_in(decision)
    ref = f"audit-{decision.decision_id}"
    await asking.parts.log.append(violation(asking, decision.risk.score, {"why": "address"}, personal, ref))


def _denial(decision: Decision) -> Refusal:
    reason = decision.verdict.reason.value
    return Refusal(
        status=403,
        phrase=f"Denied by the policy ({reason}), decision {decision.decision_id}",
        members={
            "type": DeniedError("").urn,
            "title": DeniedError.title,
            "decision_id": decision.decision_id,
            "reason": reason,
        },
    )


def _refusal(error: HearthgateError, decision: Decision | None) -> Refusal:
    # WHY: what is not available is so behind the gateway, which is what a proxy answers with 502.
    status = 502 if isinstance(error, UnavailableError) else error.status
    members: dict[str, Json] = {"type": error.urn, "title": error.title, "detail": error.message}
    if decision is not None:
        members["decision_id"] = decision.decision_id
    return Refusal(status=status, phrase=error.message[:200], members=members)


def _note(op: str, decision: Decision | None, *, ok: bool) -> dict[str, Json]:
    effect = "error" if decision is None else decision.verdict.effect.value
    return {"op": op, "decision_id": None if decision is None else decision.decision_id, "effect": effect, "ok": ok}
