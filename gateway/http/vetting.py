"""Looking at a plugin: its risk, reviews of its code by people, scans of it by bandit."""

import asyncio
from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from pydantic import Field

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.errors import MalformedError
from gateway.flows.authorize import authorize
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.flows.plugin_risk import assess
from gateway.flows.review import review_plugin, standing_review
from gateway.flows.scan import accept_scan, read_scan, scan_plugin
from gateway.http.bodies import Body, Reason

_FORMATS = ("json", "sarif")


class VettingBody(Body):
    """Which code was looked at, and what there is to say of it."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    reason: Reason = ""


@get("/v1/plugins/{plugin_id:str}/reviews")
async def reviews(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Give the reviews of the code that a plugin has now, the newest first."""
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    plugin = find(parts, plugin_id)
    return {
        "plugin_id": plugin.id,
        "digest": plugin.digest,
        "required": plugin.manifest.code_review_required,
        "reviewed": standing_review(parts, plugin, plugin.digest) is not None,
        "reviews": [each.as_json() for each in parts.registry.vetting.reviews(plugin.id, plugin.digest)],
    }


@post("/v1/plugins/{plugin_id:str}/review", status_code=200)
async def review(
    plugin_id: FromPath[str],
    data: JSONBody[VettingBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Say that one reviewed this very code; another than who registered it."""
    return (await review_plugin(parts, caller, plugin_id, data.digest, data.reason)).as_json()


@get("/v1/plugins/{plugin_id:str}/scan")
async def last_scan(
    plugin_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    form: FromQuery[str] = "json",
) -> dict[str, Any]:
    """Give the scan of the code that a plugin has now, as JSON or (`form=sarif`) as SARIF 2.1.0."""
    if form not in _FORMATS:
        raise MalformedError(f"form `{form[:40]}`", way_out=", ".join(_FORMATS))
    found = await read_scan(parts, caller, plugin_id)
    return found.as_sarif() if form == "sarif" else found.as_json()


@post("/v1/plugins/{plugin_id:str}/scan", status_code=200)
async def scan(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Scan the code that a plugin has now."""
    return (await scan_plugin(parts, caller, plugin_id)).as_json()


@post("/v1/plugins/{plugin_id:str}/scan/accept", status_code=200)
async def accept(
    plugin_id: FromPath[str],
    data: JSONBody[VettingBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Take what the scan of this very code found upon oneself."""
    return (await accept_scan(parts, caller, plugin_id, data.digest, data.reason)).as_json()


@get("/v1/plugins/{plugin_id:str}/risk")
async def risk(
    plugin_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give what is known of a plugin's risk: declared, by its rights, by what it asks for, and by what it did."""
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    return (await asyncio.to_thread(assess, parts, reader, find(parts, plugin_id))).as_json()


ROUTES = [risk, reviews, review, last_scan, scan, accept]
