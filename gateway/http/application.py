"""The ASGI application: every route with its door, its identity and its problems."""

from collections.abc import Callable, Mapping
from typing import Any

from litestar import Litestar, Request
from litestar.di import NamedDependency, Provide
from litestar.openapi import OpenAPIConfig
from litestar.plugins.pydantic import PydanticPlugin

from gateway.audit.query import LogReader
from gateway.config import HttpSettings, JwtSettings
from gateway.domain.caller import Caller
from gateway.domain.quota import parse_quota
from gateway.flows.execute_once import Once
from gateway.flows.parts import Parts
from gateway.http import (
    access_requests,
    audit,
    audit_exports,
    authzen,
    benchmarks,
    call_approvals,
    decisions,
    erasures,
    health,
    log_files,
    people,
    permissions,
    plugins,
    policy,
    policy_edits,
    reloads,
    timeline,
    traffic,
    vetting,
)
from gateway.http.documented import SECURITY, SECURITY_SCHEMES, documented, methods_of
from gateway.http.doors import Door, Refusals, StrictRequest
from gateway.http.identity import Identity
from gateway.http.mcp.door import McpDoor
from gateway.http.openapi import DocumentPlugin
from gateway.http.problems import HANDLERS
from gateway.http.protected_resource import ProtectedResource
from gateway.http.public_url import PublicUrl
from gateway.http.queries import check_query, with_queries
from gateway.http.straight import PLAIN, StraightWay
from gateway.http.tokens import Tokens
from gateway.http.traced import Traced
from gateway.traffic.query import TrafficReader
from gateway.traffic.store import FILE as TRAFFIC_FILE

MAX_BODY_BYTES = 64 << 10
_FROM_QUERY: Mapping[str, Callable[..., Any]] = {"wanted": audit.wanted, "traffic_wanted": traffic.traffic_wanted}
ROUTES = [
    *health.ROUTES,
    *decisions.ROUTES,
    *plugins.ROUTES,
    *timeline.ROUTES,
    *reloads.ROUTES,
    *benchmarks.ROUTES,
    *vetting.ROUTES,
    *permissions.ROUTES,
    *call_approvals.ROUTES,
    *people.ROUTES,
    *policy.ROUTES,
    *policy_edits.ROUTES,
    *audit.ROUTES,
    *traffic.ROUTES,
    *log_files.ROUTES,
    *erasures.ROUTES,
    *audit_exports.ROUTES,
    *authzen.ROUTES,
    *access_requests.ROUTES,
]


def build_asgi(
    parts: Parts, settings: HttpSettings, refusals: Refusals, mcp: McpDoor, issuer: JwtSettings | None = None
) -> StraightWay | Traced:
    """Build all that one home answers.

    Raises:
        ConfigError: the keys of a token issuer cannot be read.
    """
    key_rate = parse_quota(settings.key_rate) if settings.key_rate else None
    tokens = Tokens(issuer, parts.home) if issuer is not None and issuer.issuer else None
    identity = Identity(parts, socket=settings.socket, key_rate=key_rate, tokens=tokens)
    public_url = PublicUrl(settings.public_url)
    resource = None if tokens is None or issuer is None else ProtectedResource(issuer, public_url)
    door = Door(refusals, identity, settings.allowed_hosts, resource, methods_of(ROUTES))
    application = build_application(parts, door, public_url, mcp)
    if resource is not None:
        application.register(resource.route)
    way = StraightWay(application, parts, door, max_body_bytes=MAX_BODY_BYTES)
    return way if parts.spans is None else Traced(way, parts.spans, PLAIN)


def build_application(parts: Parts, door: Door, public_url: PublicUrl, mcp: McpDoor) -> Litestar:
    """Build the application of one home: every route behind its door."""
    reader = LogReader(parts.home / "data")
    transfers = TrafficReader(parts.home / "data" / TRAFFIC_FILE)
    once = Once()
    parts.forgetting.append(lambda user, _seqs: once.forget(user))

    # WHY: each needs the one before, for the framework makes tasks for those that could be found at the same time.
    def caller(request: Request, parts: NamedDependency[Parts]) -> Caller:  # type: ignore[type-arg] # litestar reads the bare name
        _ = parts
        found: Caller = request.scope["user"]
        return found

    def answered(caller: NamedDependency[Caller]) -> Once:
        _ = caller
        return once

    return Litestar(
        route_handlers=[*with_queries(documented(ROUTES), _FROM_QUERY), mcp.route],
        guards=[check_query],
        dependencies={
            "parts": Provide(lambda: parts, sync_to_thread=False),
            "caller": Provide(caller, sync_to_thread=False),
            "reader": Provide(lambda: reader, sync_to_thread=False),
            # WHY: no name of a body's member, whose mistakes would pass for our own and be answered with 500.
            "answered": Provide(answered, sync_to_thread=False),
            "traffic": Provide(lambda: transfers, sync_to_thread=False),
            "public_url": Provide(lambda: public_url, sync_to_thread=False),
            **{name: Provide(take, sync_to_thread=False) for name, take in _FROM_QUERY.items()},
        },
        middleware=[door],
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers=dict(HANDLERS),
        # WHY: without this the models' own `strict` is overruled, and "1" would pass for a number.
        plugins=[PydanticPlugin(validate_strict=True)],
        openapi_config=OpenAPIConfig(
            title="Hearthgate",
            version="1",
            path="/schema",
            render_plugins=[DocumentPlugin()],
            components=SECURITY_SCHEMES,
            security=SECURITY,
        ),
        logging_config=None,  # WHY: the default one would print requests, and others' loggers, to stdout
        debug=False,
    )
