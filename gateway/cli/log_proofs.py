"""What proves the decision log: verify, checkpoint, proof, rotate-key."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import note, print_block, print_json, print_text
from gateway.errors import NoHomeError, UsageError

_UNVERIFIED = 6


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `audit`."""
    verb(app, "verify")(verify)
    verb(app, "checkpoint")(checkpoint)
    verb(app, "proof")(proof)
    verb(app, "rotate-key")(rotate_key)


def verify(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The log's public key, data/keys/log.pub.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option("--since", metavar="CHECKPOINT", help="An older checkpoint that it must continue.")
    ] = None,
    leaves: Annotated[
        Path | None,
        typer.Option("--leaves", metavar="FILE", help="The leaf hashes beside it, from `export --sidecar`."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Processes for a large file.")
    ] = os.cpu_count() or 1,
) -> None:
    """Check an export by itself; exit 6 if it is not what it claims.

    Asks no gateway. Without --key the key of a home that is named is used. What is not JSON Lines is checked by the
    manifest beside it.
    """
    from gateway.cli.audit_export import verify_export

    key = key or _own_key(call)
    result = verify_export(
        file,
        key=None if key is None else _text(key),
        since=None if since is None else _text(since),
        leaves=leaves,
        jobs=jobs,
    )

    def tell() -> None:
        for finding in result.findings:
            print_text(f"{file}: {finding}")
        if result.ok:
            print_text(f"{file}: {result.lines} {result.unit}, whole and unchanged" + (", signed" if key else ""))
        for remark in result.notes:
            note(remark)

    call.show(result.as_json(), tell)
    if not result.ok:
        raise typer.Exit(_UNVERIFIED)


def checkpoint(call: Call) -> None:
    """Print the signed head of the log, to be kept elsewhere."""
    text = call.ask("GET", "/v1/audit/checkpoint")
    call.show({"checkpoint": text}, lambda: print_block(text))


def proof(
    call: Call,
    event_id: Annotated[str | None, typer.Argument(metavar="ID", help="An event's or a decision's id.")] = None,
    older: Annotated[
        Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Prove that the log only grew since this one.")
    ] = None,
    tlog: Annotated[bool, typer.Option("--tlog", help="Print a C2SP tlog-proof.")] = False,
) -> None:
    """Prove that a record is in the log, or that the log continues an older checkpoint; exit 6 if it does not."""
    if (event_id is None) == (older is None):
        raise UsageError("name a record, or an older checkpoint with --from")
    if older is not None:
        _prove_growth(call, older)
        return
    form = "tlog" if tlog else "json"
    found = call.ask("GET", f"/v1/audit/proof/{quote(event_id or '', safe='')}", params={"format": form})
    if tlog:
        call.show({"proof": found}, lambda: print_block(found))
    else:
        print_json(found)


def rotate_key(call: Call, reason: Reason) -> None:
    """Sign the log with a new key from now on; the old one hands over to it in the log."""
    found = call.ask("POST", "/v1/audit/rotate-key", json={"reason": reason})
    call.show(found, lambda: print_block(found["key"]))
    note("keep the new public key where the old one is kept; either checks the log")


def _prove_growth(call: Call, older: Path) -> None:
    from gateway.audit.checkpoint import parse_note, parse_verifier
    from gateway.audit.proof import check_consistency

    old, key = parse_note(_text(older)), _own_key(call)
    found = call.ask("GET", "/v1/audit/consistency", params={"old": old.size})
    new = check_consistency(old, found, None if key is None else parse_verifier(_text(key)))
    call.show(found, lambda: print_text(f"the log of {new.size} records continues the one of {old.size}"))


def _own_key(call: Call) -> Path | None:
    try:
        key = call.home() / "data" / "keys" / "log.pub"
    except NoHomeError:
        return None
    return key if key.is_file() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"`{path}` cannot be read: {error}") from error
