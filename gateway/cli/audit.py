"""The decision log: read it, take it away, prove it."""

import json
from collections import deque
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import log_files, log_proofs
from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_json, print_table
from gateway.errors import NotFoundError, UsageError

app = typer.Typer(help="The decision log: tail, search, show, export, verify ...", no_args_is_help=True)

COLUMNS = columns(when="!timestamp", plugin="plugin_id", user="user_id", risk="#risk_score", what="what")

_SINKS = columns(
    name="!name",
    kind="kind",
    format="format",
    target="target",
    position="#position",
    lag="#lag",
    aside="#put_aside",
    missed="#missed",
    last_error="last_error",
)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which records are wanted; every one given must hold."""

    plugin: Annotated[str | None, typer.Option("--plugin", metavar="ID")] = None
    user: Annotated[str | None, typer.Option("--user", metavar="USER")] = None
    event_type: Annotated[str | None, typer.Option("--event-type", metavar="TYPE", help="As access_denied.")] = None
    category: Annotated[str | None, typer.Option("--category", metavar="NAME", help="As security.")] = None
    effect: Annotated[str | None, typer.Option("--effect", metavar="EFFECT", help="allow or deny.")] = None
    rule: Annotated[str | None, typer.Option("--rule", metavar="ID", help="The rule that decided.")] = None
    min_risk: Annotated[int | None, typer.Option("--min-risk", metavar="N", help="0 to 100.")] = None
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="RFC 3339.")] = None
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="RFC 3339.")] = None


@verb(app, "tail")
def tail(
    call: Call,
    filters: Filters,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=1, max=1000)] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is recorded from now on.")] = False,
) -> None:
    """Show the newest records, the newest last."""
    if not follow:
        _show(call, {**asdict(filters), "limit": lines})
        return
    from gateway.cli.audit_tail import follow_log

    follow_log(call, asdict(filters), lines)


@verb(app, "search")
def search(
    call: Call,
    filters: Filters,
    q: Annotated[
        str | None, typer.Argument(metavar="WORDS", help='Words that must all occur, a "phrase", or a beginning*.')
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", metavar="C", help="Go on where a search ended.")] = None,
) -> None:
    """Find records, the newest last."""
    _show(call, {**asdict(filters), "q": q, "limit": limit, "cursor": cursor})


@verb(app, "reindex")
def reindex(call: Call) -> None:
    """Make the index anew from the log, and wait until it has everything."""
    from gateway.cli.audit_tail import wait_for_index

    with call.client() as client:
        state = client.request("POST", "/v1/audit/reindex").body
        state = wait_for_index(lambda: client.request("GET", "/v1/audit/index").body, state["records"])
    call.show(state, lambda: note(f"{state['indexed']} records are indexed"))


@verb(app, "show")
def show(
    call: Call, event_id: Annotated[str, typer.Argument(metavar="ID", help="An event's or a decision's id.")]
) -> None:
    """Show one record whole."""
    with call.client() as client:
        found = client.request("GET", "/v1/audit", params={"event_id": event_id}).body["records"]
    if not found:
        raise NotFoundError(f"there is no record `{event_id}`")
    print_json(found[0])


@verb(app, "export")
def export(
    call: Call,
    filters: Filters,
    *,
    q: Annotated[str | None, typer.Option("--text", metavar="WORDS", help="Words that occur in the record.")] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="jsonl, csv, parquet, ocsf, cef, cloudevents, opa or syslog."),
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
    compress: Annotated[str | None, typer.Option("--compress", metavar="NAME", help="gzip or zstd.")] = None,
    redact: Annotated[
        str | None,
        typer.Option("--redact", metavar="FIELDS", help="user_id, scope, near_misses, replay, details; or all."),
    ] = None,
    sidecar: Annotated[
        Path | None,
        typer.Option("--sidecar", metavar="FILE", help="Write all leaf hashes here, for `verify --leaves`."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write the log, and with -o a manifest beside it that proves the file.

    JSON Lines prove themselves line by line.
    """
    if output is None and call.as_json:
        raise UsageError("the export itself is many documents", way_out="name a file with -o FILE")
    if sidecar is not None and (output is None or form != "jsonl" or compress is not None):
        raise UsageError("the leaves belong to a file of JSON Lines", way_out="name one with -o FILE")
    from gateway.cli.audit_export import print_export, shown
    from gateway.client.export import save_export

    params = {**asdict(filters), "q": q, "format": form, "compress": compress, "redact": redact}
    with call.client() as client:
        if output is None:
            print_export(client, params)
            return
        manifest = save_export(client, output, params, force=force, progress=shown(form, compress))
    if sidecar is not None:
        _write_leaves(call, output, sidecar)
    records = manifest["rows"] + (form == "jsonl")  # JSON Lines hold the record of the export itself, too
    if call.as_json:
        beside = None if sidecar is None else str(sidecar)
        print_json({"file": str(output), "records": records, "sidecar": beside, "manifest": manifest})
    else:
        note(f"{records} records written to {output}; `hearthgate audit verify {output}` checks them")


@verb(app, "report")
def report(
    call: Call,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="RFC 3339; else from the first.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="RFC 3339; else now.")] = None,
    subject_data: Annotated[
        str | None, typer.Option("--subject-data", metavar="USER", help="Who could read this person's data, and did.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="html or json.")] = "html",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
) -> None:
    """Tell what was decided and done in a period, as a page to print or as JSON."""
    form = "json" if call.as_json and output is None else form
    params = {"since": since, "until": until, "subject_data": subject_data, "format": form}
    body = call.ask("GET", "/v1/audit/report", params=params)
    text = body if form == "html" else json.dumps(body, indent=2)
    if output is None:
        print(text)  # noqa: T201 (the page and the JSON spell every control character)
        return
    from gateway.cli.files import write_chunks

    write_chunks(output, [text.encode()])
    call.show({"file": str(output)}, lambda: note(f"the report is in {output}"))


@verb(app, "sinks")
def sinks(
    call: Call,
    retry: Annotated[
        str | None, typer.Option("--retry", metavar="NAME", help="Deliver once more what this one put aside.")
    ] = None,
) -> None:
    """Show where records go on to, how far each sink is, and its last error."""
    if retry is not None:
        told = call.ask("POST", f"/v1/audit/sinks/{retry}/retry")
        call.show(told, lambda: note(f"what `{retry}` put aside is delivered once more"))
        return
    found = call.ask("GET", "/v1/audit/sinks")
    call.show(found, lambda: print_table(_SINKS, found["sinks"], empty="no sinks: name them in hearthgate.toml"))


def _write_leaves(call: Call, export: Path, sidecar: Path) -> None:
    from gateway.cli.files import write_chunks

    with export.open("rb") as file:
        last = json.loads(deque(file, maxlen=1)[0])
    with (
        call.client() as client,
        closing(client.stream_lines("/v1/audit/leaves", params={"size": last["seq"]})) as lines,
    ):
        write_chunks(sidecar, lines)


def _show(call: Call, params: dict[str, Any]) -> None:
    found = call.ask("GET", "/v1/audit", params=params)
    rows = [row_of(record) for record in reversed(found["records"])]

    def tell() -> None:
        print_table(COLUMNS, rows, empty="no such records")
        if found["cursor"] is not None and "cursor" in params:
            note(f"there are more: --cursor {found['cursor']}")
        if "note" in found:
            note(found["note"])

    call.show(found, tell)


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Give a record with what it says in one line."""
    return {**record, "what": _what(record)}


def _what(record: dict[str, Any]) -> str:
    decision, details = record["decision"], record["details"]
    if decision is None:
        more = [str(details[name]) for name in ("function", "outcome", "reason") if details.get(name)]
        return ": ".join([record["event_type"], *more])
    rule = decision["rule"] or next(iter(decision["near_misses"]), None)
    because = decision["reason"] if rule is None else f"{decision['reason']} {rule['id']}"
    dry = ", dry run" if decision["dry_run"] else ""
    return f"{decision['effect']} {decision['permission']} {decision['scope']} ({because}{dry})"


# WHY: last, for help tells the verbs in this order.
log_proofs.add_verbs(app)
log_files.add_verbs(app)
