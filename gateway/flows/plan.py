"""What a payload calls: the functions of a plugin, and with what; each held against the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.manifest import Capability, Manifest
from gateway.domain.request import Json
from gateway.errors import MalformedError

MAX_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of one function of a plugin."""

    function: str
    arguments: Mapping[str, Json]
    capability: Capability | None


def plan(manifest: Manifest, payload: Mapping[str, Json]) -> tuple[Step, ...]:
    """Say which functions a payload calls, and with what; each is checked against the manifest.

    Raises:
        MalformedError: it names no capability, or its parameters are not the capability's.
    """
    if not manifest.capabilities:
        return (Step(function="execute", arguments={"payload": dict(payload)}, capability=None),)
    action = payload.get("action")
    capability = manifest.capability(action) if isinstance(action, str) else None
    if capability is None:
        names = ", ".join(each.name for each in manifest.capabilities)
        said = f"`{str(action)[:80]}` is none of them" if "action" in payload else "it is missing"
        raise MalformedError(f"payload.action: {said}; the capabilities of `{manifest.plugin_id}` are {names}")
    if "batch" not in payload:
        given = {name: value for name, value in payload.items() if name != "action"}
        return (_step(capability, given, "payload"),)
    batch = payload["batch"]
    if not capability.batch:
        raise MalformedError(f"payload.batch: `{capability.name}` takes one call at a time")
    if not isinstance(batch, list) or not 1 <= len(batch) <= MAX_BATCH or set(payload) != {"action", "batch"}:
        raise MalformedError(f"payload.batch: a list of 1 to {MAX_BATCH} objects of parameters, and nothing beside it")
    return tuple(_step(capability, each, f"payload.batch[{index}]") for index, each in enumerate(batch))


def _step(capability: Capability, given: Json, place: str) -> Step:
    if not isinstance(given, dict):
        raise MalformedError(f"{place}: an object of parameters is needed")
    if (wrong := capability.fault(given)) is not None:
        where, what = wrong
        raise MalformedError(f"{place}{where}: {what}")
    return Step(function=capability.name, arguments=given, capability=capability)
