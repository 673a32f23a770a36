"""Looking at a plugin's code on the terminal: reviews and scans."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import note, print_text
from gateway.cli.plugin import PluginArgument

_FAILED = 1


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `plugin`."""
    verb(app, "review")(review)
    verb(app, "scan")(scan)


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


def _tell(found: dict[str, Any]) -> None:
    for each in found["findings"]:
        print_text(f"{each['file']}:{each['line']}: {each['severity']}: {each['text']} ({each['rule']})")
    counts = ", ".join(f"{number} {severity}" for severity, number in found["counts"].items())
    note(f"{found['scanner']}, {found['digest']}: {counts}")
    if found["accepted_by"] is not None:
        note(f"accepted by {found['accepted_by']}: {found['reason']}")
