"""What is done to the files of the decision log: rotate, backup, erase."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import note, print_text


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `audit`."""
    verb(app, "rotate")(rotate)
    verb(app, "backup")(backup)
    verb(app, "erase")(erase)


def rotate(call: Call, reason: Reason = "") -> None:
    """Close the live file of the log and begin a new one; the log goes on without a gap."""
    closed = call.ask("POST", "/v1/audit/rotate", json={"reason": reason})
    call.show(closed, lambda: print_text(f"records {closed['first']} to {closed['last']} are closed"))


def backup(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    with_private_key: Annotated[
        bool, typer.Option("--with-private-key", help="Also the key that signs checkpoints; guard the copy as the log.")
    ] = False,
) -> None:
    """Copy the log, as it is at this moment, while the gateway goes on.

    Reads the home's files and asks no gateway. docs/operations.md tells how to restore a copy.
    """
    from gateway.audit.backup import back_up

    done = back_up(call.home() / "data", folder, with_private_key=with_private_key)

    def tell() -> None:
        print_text(f"{done.size} records copied to {folder}")
        if not with_private_key:
            note("without data/keys/log.key, which a restored log needs to go on: keep that apart")

    call.show(done.as_json(), tell)


def erase(
    call: Call,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="Who is to be erased.")],
    reason: Reason,
    keep_policy: Annotated[
        bool, typer.Option("--keep-policy", help="Go on though policy files or manifests name the person; they stay.")
    ] = False,
) -> None:
    """Erase a person from log, registry and vault; what they did stays, linked and nameless."""
    body = {"user": user, "reason": reason, "keep_policy": keep_policy}
    done = call.ask("POST", "/v1/audit/erase", json=body)

    def tell() -> None:
        if done["status"] == "pending":
            print_text("it waits for a second person, who asks for the same with a key of their own")
            return
        print_text(f"{done['records']} records are nameless, {done['records_of_others']} of others no longer name them")
        if done["named_in_public"]:
            note(f"{done['named_in_public']} records name them in their public part, as a rule's name does: that stays")
        if done["exports_count"]:
            numbers = ", ".join(map(str, done["exports"]))
            note(f"{done['exports_count']} exports left before and may hold their values: records {numbers}")
        if done["sinks"]:
            note(f"what went on to {', '.join(done['sinks'])} may hold their values, too")

    call.show(done, tell)
