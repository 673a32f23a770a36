"""Plugins: their way from registration to removal, and running them."""

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, note, print_facts, print_json, print_table, print_text
from gateway.errors import UsageError

app = typer.Typer(help="Plugins: register, approve, run, suspend, revoke ...", no_args_is_help=True)

_COLUMNS = columns(
    id="!plugin_id", status="!status", version="version", risk="#risk.score", tier="risk.tier", name="name"
)
_FACTS = columns(
    id="plugin_id",
    name="name",
    version="version",
    status="status",
    reloading="reloading",
    reason="reason",
    author="author",
    description="description",
    risk="risk.score",
    tier="risk.tier",
    generation="generation",
    digest="digest",
    registered="registered_at",
    changed="changed_at",
)
_UNKNOWN = 5
_FAILED = 1
_STDIN = "-"

PluginArgument = Annotated[str, typer.Argument(metavar="ID", help="The plugin's id.")]


@verb(app, "register")
def register(
    call: Call,
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A plugin's folder, or the name of one in HOME/plugins.")
    ],
    reason: Reason = "",
) -> None:
    """Register a plugin from its folder; one outside the home is copied to HOME/plugins first."""
    from gateway.cli.plugin_folder import bring_home

    home = call.home()
    plugin_id, copied = bring_home(folder, home)
    if copied:
        note(f"copied to {home / 'plugins' / plugin_id}")
    made = call.ask("POST", "/v1/plugins", json={"folder": plugin_id}, params={"reason": reason or None})

    def tell() -> None:
        print_text(f"registered {plugin_id}")
        note(f"next: `hearthgate plugin show {plugin_id}`, then `hearthgate plugin approve {plugin_id}`")

    call.show(made, tell)


@verb(app, "list")
def list_plugins(
    call: Call, status: Annotated[str | None, typer.Option("--status", help="Only those in this state.")] = None
) -> None:
    """List the plugins."""
    found = call.ask("GET", "/v1/plugins", params={"status": status})
    call.show(found, lambda: print_table(_COLUMNS, found["plugins"], empty="no plugins"))


@verb(app, "show")
def show(call: Call, plugin_id: PluginArgument) -> None:
    """Show one plugin."""
    found = call.ask("GET", f"/v1/plugins/{plugin_id}")

    def tell() -> None:
        print_facts(found, _FACTS)
        for each in found["depends_on"]:
            note(f"{each['by']} needs {each['plugin_id']} {each['wanted']}: {each['problem'] or 'it is there'}")
        for warning in found["warnings"]:
            note(f"warning: {warning}")
        if found["understated"]:
            note(f"its author declares the tier {found['declared_tier']}, which is lower than the computed one")

    call.show(found, tell)


@verb(app, "approve")
def approve(call: Call, plugin_id: PluginArgument, reason: Reason = "") -> None:
    """Approve a registered plugin with what its manifest requests; it becomes active."""
    _move(call, plugin_id, "approve", reason)


@verb(app, "suspend")
def suspend(call: Call, plugin_id: PluginArgument, reason: Reason = "") -> None:
    """Stop a plugin for now; running work is killed."""
    _move(call, plugin_id, "suspend", reason)


@verb(app, "resume")
def resume(
    call: Call,
    plugin_id: PluginArgument,
    tool: Annotated[
        str | None, typer.Option("--tool", metavar="CAPABILITY", help="Of an MCP server: this suspended tool alone.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Let a suspended plugin work again, or one tool of it."""
    _move(call, plugin_id, "resume" if tool is None else f"tools/{quote(tool, safe='')}/resume", reason)


@verb(app, "revoke")
def revoke(call: Call, plugin_id: PluginArgument, reason: Reason = "") -> None:
    """Take all a plugin's grants away for good; running work is killed."""
    _move(call, plugin_id, "revoke", reason)


@verb(app, "uninstall")
def uninstall(call: Call, plugin_id: PluginArgument, reason: Reason = "") -> None:
    """Remove a plugin with its grants, consents and requests; its folder stays."""
    _move(call, plugin_id, "uninstall", reason)


@verb(app, "run")
def run(
    call: Call,
    plugin_id: PluginArgument,
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="A JSON object, or `-` to read it from stdin.")],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="On whose behalf.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="The session it belongs to.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Stop it after this long.")
    ] = None,
) -> None:
    """Run a plugin and print what it returned; exit 0 returned, 1 failed, 3 denied, 5 outcome unknown."""
    body: dict[str, Any] = {"payload": payload_of(payload)}
    if session is not None:
        body["session_id"] = session
    if timeout is not None:
        body["timeout_s"] = timeout
    result = call.ask("POST", f"/v1/plugins/{plugin_id}/execute", json=body, on_behalf=user)

    def tell() -> None:
        if result["success"]:
            print_json(result["output"])
        else:
            note(f"{plugin_id}: {result['outcome']}: {result['error']}")

    call.show(result, tell)
    if not result["success"]:
        raise typer.Exit(_UNKNOWN if result["outcome"] == "unknown" else _FAILED)


def _move(call: Call, plugin_id: str, step: str, reason: str) -> None:
    moved = call.ask("POST", f"/v1/plugins/{plugin_id}/{step}", json={"reason": reason})
    call.show(moved, lambda: print_text(f"{plugin_id} is {moved['status']}"))


def payload_of(text: str) -> dict[str, Any]:
    """Take a payload from an argument, or from stdin where it is `-`.

    Raises:
        UsageError: it is no JSON object.

    """
    try:
        payload = json.loads(sys.stdin.read() if text == _STDIN else text)
    except ValueError as error:
        raise UsageError(f"the payload is not JSON: {error}", way_out='quote it, as \'{"action": "today"}\'') from None
    if not isinstance(payload, dict):
        raise UsageError("the payload is not a JSON object", way_out='as \'{"action": "today"}\'')
    return payload
