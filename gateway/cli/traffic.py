"""The traffic log: how much plugins' asks moved, and where to."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_facts, print_json, print_stream, print_table
from gateway.errors import UsageError

app = typer.Typer(help="What plugins sent and received: list, summary, active, export.", no_args_is_help=True)

_TRANSFERS = columns(
    ended="!ended", plugin="plugin", user="user", what="what", host="peer", status="#status", out="#bytes_out",
    **{"in": "#bytes_in"}, ms="#duration_ms", outcome="ended_as",
)  # fmt: skip
_ACTIVE = columns(
    started="!started", plugin="plugin", user="user", what="what", host="peer", out="#bytes_out",
    **{"in": "#bytes_in"}, ms="#duration_ms",
)  # fmt: skip
_FACTS = columns(
    transfers="transfers", not_returned="not_returned", bytes_out="bytes_out", bytes_in="bytes_in",
    first_ended="first_ended", last_ended="last_ended", median_ms="duration_ms.p50", p95_ms="duration_ms.p95",
    longest_ms="duration_ms.max", under_way="active", dropped="log.dropped", problem="log.problem",
)  # fmt: skip
_GROUPS = ("plugin", "host", "user", "op")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which transfers are wanted; every one given must hold."""

    plugin: Annotated[str | None, typer.Option("--plugin", metavar="ID")] = None
    host: Annotated[str | None, typer.Option("--host", metavar="HOST")] = None
    user: Annotated[str | None, typer.Option("--user", metavar="USER")] = None
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="RFC 3339.")] = None
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="RFC 3339.")] = None


@verb(app, "list")
def list_transfers(
    call: Call,
    filters: Filters,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000)] = 50,
) -> None:
    """List transfers, the newest last."""
    found = call.ask("GET", "/v1/traffic", params={**asdict(filters), "limit": limit})
    rows = [_row(each) for each in reversed(found["transfers"])]
    call.show(found, lambda: print_table(_TRANSFERS, rows, empty="no such transfers"))


@verb(app, "summary")
def summary(call: Call, filters: Filters) -> None:
    """Sum up: how much, who, where to, how long."""
    found = call.ask("GET", "/v1/traffic/summary", params=asdict(filters))

    def tell() -> None:
        print_facts(found, _FACTS)
        for name in _GROUPS:
            if found[f"by_{name}"]:
                shown = columns(
                    **{name: name, "transfers": "#transfers", "not returned": "#not_returned"},
                    out="#bytes_out", **{"in": "#bytes_in"},
                )  # fmt: skip
                note("")
                print_table(shown, found[f"by_{name}"], empty="")

    call.show(found, tell)


@verb(app, "active")
def active(call: Call) -> None:
    """List the transfers that are under way, the oldest first."""
    found = call.ask("GET", "/v1/traffic/active")
    rows = [_row(each) for each in found["active"]]
    call.show(found, lambda: print_table(_ACTIVE, rows, empty="nothing is under way"))


@verb(app, "export")
def export(
    call: Call,
    filters: Filters,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="jsonl or csv.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
) -> None:
    """Write transfers as JSON Lines or CSV, the oldest first."""
    if output is None and call.as_json:
        raise UsageError("the export itself is many documents", way_out="name a file with -o FILE")
    params = {**asdict(filters), "format": form}
    with call.client() as client, closing(client.stream_lines("/v1/traffic/export", params=params)) as lines:
        if output is None:
            print_stream(lines)
            return
        from gateway.cli.files import write_chunks

        count = write_chunks(output, lines) - (form == "csv")
    if call.as_json:
        print_json({"file": str(output), "transfers": count})
    else:
        note(f"{count} transfers written to {output}")


def _row(transfer: dict[str, Any]) -> dict[str, Any]:
    host, port, method = transfer["host"], transfer["port"], transfer["method"]
    ended_as = transfer.get("outcome")
    return {
        **transfer,
        "what": transfer["op"] if method is None else f"{method} {transfer['path'] or ''}".rstrip(),
        "peer": None if host is None else f"{host}:{port}",
        "ended_as": f"{ended_as}: {transfer['problem']}" if transfer.get("problem") else ended_as,
    }
