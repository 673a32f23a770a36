"""Consents: what users let plugins do with what is theirs."""

from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, print_table, print_text

app = typer.Typer(help="A user's consents: add, list, withdraw.", no_args_is_help=True)

_COLUMNS = columns(
    id="!id",
    user="user_id",
    plugin="plugin_id",
    to="to",
    purpose="purpose",
    since="given_at",
    last_used="last_used_at",
    ends="ends",
)
_NEEDLESS = columns(
    rule="!rule", who="subject", to="to", condition="condition", since="since", last_used="last_used_at"
)


@verb(app, "add")
def add(
    call: Call,
    *,
    user: Annotated[
        str, typer.Option("--user", metavar="USER", help="Whose consent; recorded as given on their behalf.")
    ],
    plugin: Annotated[str, typer.Option("--plugin", metavar="ID")],
    permission: Annotated[str, typer.Option("--permission", metavar="NAME", help="As vault_read.")],
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPE", help="As user_data/diary or user_data/*.")],
    purpose: Annotated[str | None, typer.Option("--purpose", metavar="TEXT")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="RFC 3339.")] = None,
    once: Annotated[bool, typer.Option("--once", help="For one use.")] = False,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="For one session.")] = None,
    reason: Reason = "",
) -> None:
    """Give a consent on behalf of a user."""
    body: dict[str, Any] = {"user_id": user, "plugin_id": plugin, "permission": permission, "scope": scope}
    more = {"purpose": purpose, "until": until, "once": once or None, "session_id": session}
    body |= {name: value for name, value in more.items() if value is not None}
    given = call.ask("POST", "/v1/consents", json=body, on_behalf=user, params={"reason": reason or None})
    call.show(given, lambda: print_text(f"consent {given['id']}"))


@verb(app, "list")
def list_consents(
    call: Call,
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Only this user's.")] = None,
    plugin: Annotated[str | None, typer.Option("--plugin", metavar="ID", help="Only to this plugin.")] = None,
) -> None:
    """Tell who may do what with a user's things, since when, and when it was last done."""
    found = call.ask("GET", "/v1/consents", params={"user_id": user, "plugin_id": plugin})
    rows = [{**each, "to": f"{each['permission']} {each['scope']}", "ends": _ends(each)} for each in found["consents"]]
    more = [each for each in found.get("without_consent", ()) if plugin in {None, each["plugin_id"]}]

    def tell() -> None:
        print_table(_COLUMNS, rows, empty="no consents")
        if more:
            print_text("", "what needs no consent, by the policy in force:")
            print_table(_NEEDLESS, [{**each, "to": f"{each['permission']} {each['scope']}"} for each in more], empty="")

    call.show(found, tell)


@verb(app, "withdraw")
def withdraw(call: Call, consent_id: Annotated[str, typer.Argument(metavar="ID")], reason: Reason = "") -> None:
    """Withdraw a consent at once."""
    done = call.ask("DELETE", f"/v1/consents/{consent_id}", params={"reason": reason or None})
    call.show(done, lambda: print_text(f"withdrawn {consent_id}"))


def _ends(consent: dict[str, Any]) -> str | None:
    if consent["ended_at"] is not None:
        return f"{consent['end_reason']} {consent['ended_at']}"
    session = f"with session {consent['session_id']}" if consent["session_id"] else None
    ends = [consent["until"], "with its next use" if consent["once"] else None, session]
    return ", ".join(each for each in ends if each) or None
