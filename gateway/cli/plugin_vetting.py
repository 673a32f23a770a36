"""Looking at a plugin's code on the terminal: reviews and scans."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, note, print_facts, print_table, print_text
from gateway.cli.plugin import PluginArgument

_FAILED = 1
_RISK = columns(
    plugin="plugin_id",
    declared="declared",
    score="computed.score",
    tier="computed.tier",
    by_rights="rights.score",
    if_all_were_granted="requested.score",
)
_PARTS = columns(part="!name", points="#points")


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `plugin`."""
    verb(app, "review")(review)
    verb(app, "scan")(scan)
    verb(app, "risk")(risk)


def review(
    call: Call,
    plugin_id: PluginArgument,
    digest: Annotated[str, typer.Option("--digest", metavar="D", help="Of the code that was reviewed.")],
    reason: Reason = "",
) -> None:
    """Say that you reviewed this very code; who registered the plugin cannot."""
    path = f"/v1/plugins/{plugin_id}/review"
    made = call.ask("POST", path, json={"digest": digest, "reason": reason})
    call.show(made, lambda: print_text(f"{plugin_id} is reviewed by {made['reviewed_by']}"))


def scan(
    call: Call,
    plugin_id: PluginArgument,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the findings as SARIF 2.1.0, too.")
    ] = None,
    accept: Annotated[
        str | None, typer.Option("--accept", metavar="D", help="Take the findings in the code of this digest on you.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Scan a plugin's code with bandit; exit 1 if something of high severity was found and nobody accepts it."""
    path = f"/v1/plugins/{plugin_id}/scan"
    with call.client() as client:
        if accept is None:
            found = client.request("POST", path).body
        else:
            found = client.request("POST", f"{path}/accept", json={"digest": accept, "reason": reason}).body
        if sarif is not None:
            report = client.request("GET", path, params={"form": "sarif"}).body
            sarif.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    call.show(found, lambda: _tell(found))
    if not found["passed"] and found["accepted_by"] is None:
        raise typer.Exit(_FAILED)


def risk(call: Call, plugin_id: PluginArgument) -> None:
    """Tell how risky a plugin is, by what it may do and what it did, beside what its author declares."""
    found = call.ask("GET", f"/v1/plugins/{plugin_id}/risk")

    def tell() -> None:
        print_facts(found, _RISK)
        print_table(_PARTS, found["computed"]["parts"], empty="nothing adds to it")
        if found["understated"]:
            note("its author declares a lower tier than the computed one, which holds")

    call.show(found, tell)


def _tell(found: dict[str, Any]) -> None:
    for each in found["findings"]:
        print_text(f"{each['file']}:{each['line']}: {each['severity']}: {each['text']} ({each['rule']})")
    counts = ", ".join(f"{number} {severity}" for severity, number in found["counts"].items())
    note(f"{found['scanner']}, {found['digest']}: {counts}")
    if found["accepted_by"] is not None:
        note(f"accepted by {found['accepted_by']}: {found['reason']}")
