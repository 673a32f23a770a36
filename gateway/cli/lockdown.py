"""Lockdown: the kill switch."""

from typing import Annotated

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, print_table, print_text
from gateway.errors import NotFoundError

app = typer.Typer(help="The kill switch: on, off, list.", no_args_is_help=True)

_COLUMNS = columns(id="!id", scope="scope", since="at", by="by", reason="reason")


@verb(app, "on")
def on(
    call: Call,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="all, plugin:ID, user:ID or kind:KIND.")] = "all",
    reason: Reason = "",
) -> None:
    """Deny everything in a scope at once, and kill what runs there; it survives a restart."""
    done = call.ask("POST", "/v1/lockdown", json={"scope": scope, "reason": reason})
    call.show(done, lambda: print_text(f"locked down {scope}: {done['id']}"))


@verb(app, "off")
def off(
    call: Call,
    named: Annotated[str, typer.Argument(metavar="ID|SCOPE", help="A lockdown's id, or all that lock this scope.")],
    reason: Reason,
) -> None:
    """Lift a lockdown."""
    ids = [named]
    if named == "all" or ":" in named:
        ids = [each["id"] for each in call.ask("GET", "/v1/lockdown")["lockdowns"] if each["scope"] == named]
    if not ids:
        raise NotFoundError(f"nothing locks `{named[:80]}`", way_out="`hearthgate lockdown list` names what is locked")
    done = [call.ask("DELETE", f"/v1/lockdown/{each}", json={"reason": reason}) for each in ids]
    call.show(done[0] if len(done) == 1 else {"lifted": done}, lambda: print_text(*(f"lifted {each}" for each in ids)))


@verb(app, "list")
def list_lockdowns(call: Call) -> None:
    """List the lockdowns in force."""
    found = call.ask("GET", "/v1/lockdown")
    call.show(found, lambda: print_table(_COLUMNS, found["lockdowns"], empty="no lockdown is in force"))
