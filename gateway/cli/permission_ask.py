"""Asking on the terminal: for a permission of a plugin, and whether it has one."""

from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import note, print_text
from gateway.cli.plugin import payload_of

_DENIED = 3

PluginArgument = Annotated[str, typer.Argument(metavar="PLUGIN")]


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `permission`."""
    verb(app, "request")(request)
    verb(app, "check")(check)


def request(
    call: Call,
    plugin_id: PluginArgument,
    *,
    permission: Annotated[str, typer.Option("--permission", help="As vault_read.")],
    scope: Annotated[str, typer.Option("--scope", help="On what; `x` of a vault means all below it, too.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What for: whoever approves it reads this.")] = "",
    conditions: Annotated[
        str | None, typer.Option("--conditions", metavar="JSON", help='As in a manifest: {"user_consent": true}.')
    ] = None,
    reason: Reason = "",
) -> None:
    """Ask for a permission for a plugin, beyond those of its manifest."""
    wanted: dict[str, Any] = {"permission": permission, "scope": scope, "purpose": purpose}
    if conditions is not None:
        wanted["conditions"] = payload_of(conditions)
    body = {"plugin_id": plugin_id, "permissions": [wanted], "reason": reason}
    made = call.ask("POST", "/v1/permission-requests", json=body)

    def tell() -> None:
        print_text(f"request {made['id']} is {made['status']}")
        if made["status"] == "pending":
            note(f"next: `hearthgate permission approve {made['id']}`, or `deny`")

    call.show(made, tell)


def check(
    call: Call,
    plugin_id: PluginArgument,
    permission: Annotated[str, typer.Argument(metavar="PERMISSION", help="As vault_read.")],
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="On what; no scope is never any scope.")],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="On whose behalf.")] = None,
) -> None:
    """Tell whether a plugin would be allowed this now; exit 3 if not. Nothing is used up by asking."""
    asked = {"subject": f"plugin:{plugin_id}", "permission": permission, "scope": scope, "user": user, "dry_run": True}
    given = {name: value for name, value in asked.items() if value is not None}
    decision = call.ask("POST", "/v1/decisions", json=given)
    rule = decision["rule"]
    by = "" if rule is None else f", by {rule['file']}:{rule['line']}"
    call.show(decision, lambda: print_text(f"{decision['effect']}: {decision['reason']}{by}"))
    if decision["effect"] != "allow":
        raise typer.Exit(_DENIED)
