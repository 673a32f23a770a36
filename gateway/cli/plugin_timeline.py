"""The events of a plugin on the terminal, in order."""

from typing import Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, print_table
from gateway.cli.plugin import PluginArgument

_EVENTS = columns(when="!timestamp", event="!event_type", by="user_id", what="what", why="details.reason")
_DIGITS = 12  # of a digest


def add_verbs(app: typer.Typer) -> None:
    """Add the verb to the noun `plugin`."""
    verb(app, "timeline")(timeline)


def timeline(call: Call, plugin_id: PluginArgument) -> None:
    """Show a plugin's events in order."""
    found = call.ask("GET", f"/v1/plugins/{plugin_id}/timeline")
    rows = [{**event, "what": _what_happened(event["details"], event["hook"])} for event in found["events"]]
    call.show(found, lambda: print_table(_EVENTS, rows, empty="no events"))


def _what_happened(details: dict[str, Any], hook: dict[str, Any] | None) -> str:
    """Give the facts of a lifecycle event in a few words."""
    grants = details.get("grants")
    words = {
        "version": details.get("version"),
        "code": str(details["digest"]).removeprefix("sha256:")[:_DIGITS] if details.get("digest") else None,
        "from": details.get("from"),
        "grants": len(grants) if isinstance(grants, list) else None,
        "hook": hook["outcome"] if hook else None,
    }
    told = [f"{name} {word}" for name, word in words.items() if word is not None]
    return ", ".join([*_reloaded(details), *told])


def _reloaded(details: dict[str, Any]) -> list[str]:
    """Give the facts of a reload, or of what came of it; none of another event."""
    if "new_version" not in details:
        return []
    versions = f"version {details['previous_version']} -> {details['new_version']}"
    if details.get("success") is not True:
        return [f"failed: {versions}", *str(details.get("error") or "").splitlines()[:1]]
    return [versions, *details.get("flags", ()), f"generation {details['new_generation']}"]
