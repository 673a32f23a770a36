"""Approvals of exact calls: what waits for a person, and the answer."""

import json
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, print_table, print_text

app = typer.Typer(help="Exact calls that need a person's yes: list, approve, deny.", no_args_is_help=True)

_COLUMNS = columns(id="!id", status="!status", plugin="plugin_id", user="user_id", call="call", until="expires_at")
_SHOWN = 300  # characters of the arguments

ApprovalArgument = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.")]


@verb(app, "list")
def list_calls(
    call: Call,
    status: Annotated[
        str, typer.Option("--status", help="pending, approved, denied, used, expired, void or all.")
    ] = "pending",
) -> None:
    """List the exact calls that wait for an answer."""
    found = call.ask("GET", "/v1/call-approvals", params={"status": None if status == "all" else status})
    rows = [{**each, "call": _call(each)} for each in found["approvals"]]
    call.show(found, lambda: print_table(_COLUMNS, rows, empty="no such calls"))


@verb(app, "approve")
def approve(
    call: Call,
    approval_id: ApprovalArgument,
    reason: Reason = "",
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="When it ends unused, RFC 3339; else in an hour.")
    ] = None,
) -> None:
    """Let one exact call be made, once."""
    body = {"reason": reason, "until": until}
    given = {name: value for name, value in body.items() if value is not None}
    done = call.ask("POST", f"/v1/call-approvals/{approval_id}/approve", json=given)
    call.show(done, lambda: print_text(f"approved {approval_id}, for one use until {done['expires_at']}"))


@verb(app, "deny")
def deny(call: Call, approval_id: ApprovalArgument, reason: Reason = "") -> None:
    """Refuse one exact call."""
    done = call.ask("POST", f"/v1/call-approvals/{approval_id}/deny", json={"reason": reason})
    call.show(done, lambda: print_text(f"denied {approval_id}"))


def _call(approval: dict[str, Any]) -> str:
    args = approval["args"]
    digest = f"arguments of sha256 {approval['args_sha256']}"
    text = digest if args is None else json.dumps(args, ensure_ascii=False)
    more = "..." if len(text) > _SHOWN else ""
    return f"{approval['op']}: {approval['permission']} {approval['scope']}\n{text[:_SHOWN]}{more}"
