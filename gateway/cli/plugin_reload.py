"""Reloads of a plugin on the terminal: taking over what was edited, and what became of it."""

from typing import Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, note, print_table, print_text
from gateway.cli.plugin import PluginArgument
from gateway.cli.plugin_bench import app

_EVENTS = columns(
    when="!timestamp",
    success="!success",
    previous="previous_version",
    new="new_version",
    generation="#details.new_generation",
    mean_ms="#benchmark.mean_ms",
    told="told",
    why="reason",
)
_NOT_IN_FORCE = 1


@verb(app, "reload")
def reload(call: Call, plugin_id: PluginArgument, reason: Reason = "") -> None:
    """Take over what lies in a plugin's folder while it serves; exit 1 if it did not come into force."""
    done = call.ask("POST", f"/v1/plugins/{plugin_id}/reload", json={"reason": reason})
    call.show(done, lambda: _tell(done))
    if not done["reload"]["success"]:
        raise typer.Exit(_NOT_IN_FORCE)


@verb(app, "reloads")
def reloads(call: Call, plugin_id: PluginArgument) -> None:
    """Show a plugin's reloads, and what waits for a person."""
    found = call.ask("GET", f"/v1/plugins/{plugin_id}/reloads")
    rows = [{**event, "told": _remarks(event)} for event in found["events"]]

    def tell() -> None:
        print_table(_EVENTS, rows, empty="never reloaded")
        if found["waiting"] is not None:
            _tell_waiting(found["waiting"]["id"], found["waiting"]["difference"])

    call.show(found, tell)


def _tell(done: dict[str, Any]) -> None:
    plugin_id, told = done["plugin_id"], done["reload"]
    match told["outcome"]:
        case "reloaded":
            versions = f"{told['previous_version']} -> {told['new_version']}"
            print_text(f"{plugin_id} is reloaded: {versions}, generation {told['new_generation']}")
            for flag in told["flags"]:
                note(_FLAGS.get(flag, flag))
        case "unchanged":
            print_text(f"{plugin_id}: nothing changed since generation {done['generation']} came into force")
        case "held_back":
            _tell_waiting(told["request_id"], told["changes"])
            note(f"generation {done['generation']} serves on")


def _tell_waiting(request_id: str, changes: list[dict[str, Any]]) -> None:
    print_text("the new generation waits for a person, for it asks for more:")
    for change in changes:
        print_text(f"  {change['what']}: {change['text']}")
    note(f"next: `hearthgate permission approve {request_id}`, or `deny`")


_FLAGS = {
    "same_version": "the content changed, its version did not",
    "downgrade": "its version is lower than the one before",
    "narrowed": "it asks for less: grants were taken back",
    "revived": "it had failed, and is active again",
}


def _remarks(event: dict[str, Any]) -> str:
    if not event["success"]:
        return str(event["error"] or "failed").splitlines()[0]
    compared = (event["benchmark"] or {}).get("compared") or {}
    slower = [f"{compared['change_percent']:g} % slower"] if compared.get("slower") else []
    return ", ".join([*event["details"].get("flags", []), *slower])
