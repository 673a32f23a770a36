"""Keys: how programs prove on whose behalf they ask."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, note, print_table, print_text

app = typer.Typer(help="Keys of users: add, list, revoke.", no_args_is_help=True)

_COLUMNS = columns(
    id="!id",
    user="user",
    scopes="scopes",
    created="created_at",
    used="last_used_at",
    expires="expires_at",
    rate="rate",
    revoked="revoked_at",
)


class Scope(StrEnum):
    """What a key may be used for."""

    EVALUATE = "evaluate"
    EXECUTE = "execute"
    APPROVE = "approve"
    CONSENT = "consent"
    ADMIN = "admin"
    AUDIT = "audit"


@verb(app, "add")
def add(
    call: Call,
    user: Annotated[str, typer.Argument(metavar="USER")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="May be given again; else evaluate, execute.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="RFC 3339, as 2027-01-01T00:00:00Z.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="N/SECONDSs", help="How often it may be used, as 600/60s.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Make a key for a user; it is shown this once."""
    body: dict[str, Any] = {"user": user, "scopes": [one.value for one in scope or (Scope.EVALUATE, Scope.EXECUTE)]}
    if expires is not None:
        body["expires"] = expires
    if rate is not None:
        body["rate"] = rate
    made = call.ask("POST", "/v1/keys", json=body, params={"reason": reason or None})

    def tell() -> None:
        print_text(f"id   {made['id']}", f"key  {made['key']}")
        note("the key is not kept and not shown again: send it as `Authorization: Bearer <key>`")

    call.show(made, tell)


@verb(app, "list")
def list_keys(call: Call) -> None:
    """List the keys; the keys themselves are not kept."""
    found = call.ask("GET", "/v1/keys")
    call.show(found, lambda: print_table(_COLUMNS, found["keys"], empty="no keys: `hearthgate key add USER` makes one"))


@verb(app, "revoke")
def revoke(call: Call, key_id: Annotated[str, typer.Argument(metavar="ID")], reason: Reason = "") -> None:
    """Take a key away at once."""
    gone = call.ask("DELETE", f"/v1/keys/{key_id}", params={"reason": reason or None})
    call.show(gone, lambda: print_text(f"revoked {key_id}"))
