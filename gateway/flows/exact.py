"""Which arguments of each `ctx.*` call an approval is bound to: all, but what the scope says already."""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.domain.exact_call import ExactCall, digest_of_bytes
from gateway.domain.names import PluginId
from gateway.domain.request import Json

# What is left out because the request's canonical scope is it; and how the bytes that come with the call are named.
SCOPE_OF: Mapping[str, str | None] = {
    "vault.read": "scope",
    "vault.list": "scope",
    "vault.write": "scope",
    "vault.delete": "scope",
    "files.read": "path",
    "files.list": "path",
    "files.write": "path",
    "http.request": None,
    "system.info": "topic",
    "system.run": None,
    "api.call": None,
    "user.get": "name",
    "user.set": "name",
    "core.get": "topic",
    "plugins.list": None,
    "plugins.call": "id",
}
BLOB_OF: Mapping[str, str] = {"files.write": "data", "http.request": "body", "api.call": "body"}


def exact_call(
    op: str, args: Mapping[str, Json], blob: bytes, *, by: str | None, running: Mapping[PluginId, str | None]
) -> ExactCall | None:
    """Give the exact call that an ask is; None for what nobody can approve exactly.

    `running` names the plugins of the call, who asks first, each with the digest of the code that it runs.
    """
    if op not in SCOPE_OF:
        return None
    bound = {name: value for name, value in args.items() if name != SCOPE_OF[op]}
    if op in BLOB_OF:
        # SECURITY: last, so that no argument of that name stands in for the bytes that are really sent.
        bound[BLOB_OF[op]] = digest_of_bytes(blob)
    return ExactCall(op=op, args=bound, by=by, chain=tuple(running), running=running)


def exact_step(
    call: ExactCall | None, function: str, arguments: Mapping[str, Json], payload: Mapping[str, Json]
) -> ExactCall | None:
    """Give the exact call of one step: of a batch each is a call of its own, as if it had been made alone."""
    if call is None or "batch" not in payload:
        return call
    return replace(call, args={"action": function, **arguments})
