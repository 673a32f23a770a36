"""Permissions: what plugins ask for, what they were granted, and taking it back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, Reason, verb
from gateway.cli.output import columns, note, print_json, print_table, print_text

app = typer.Typer(help="Requests, grants, and taking them back.", no_args_is_help=True)

_REQUESTS = columns(id="!id", plugin="plugin_id", status="!status", asks_for="summary")
_GRANTS = columns(id="!id", permission="!permission", scope="scope", condition="condition", place="place", why="why")
_DIFFERENCE = columns(what="!what", plugin="plugin_id", permission="!permission", scope="scope", condition="condition")
_UNUSED = columns(
    id="!id",
    plugin="plugin_id",
    permission="!permission",
    scope="scope",
    last_used="last_used_at",
    granted="granted_at",
)

RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id.")]


@verb(app, "requests")
def requests(
    call: Call,
    status: Annotated[
        str, typer.Option("--status", help="pending, approved, denied, revoked, expired or all.")
    ] = "pending",
) -> None:
    """List what waits for a person's answer."""
    found = call.ask("GET", "/v1/permission-requests", params={"status": None if status == "all" else status})
    rows = [{**request, "summary": _summary(request)} for request in found["requests"]]
    call.show(found, lambda: print_table(_REQUESTS, rows, empty="no such requests"))


@verb(app, "approve")
def approve(
    call: Call,
    request_id: RequestArgument,
    reason: Reason = "",
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="Only this one of those asked; may be given again.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only until then, RFC 3339.")] = None,
) -> None:
    """Grant what a request asks for, or a part of it, or for a time."""
    body: dict[str, Any] = {"reason": reason}
    if permission:
        body["permissions"] = permission
    if until is not None:
        body["until"] = until
    done = call.ask("POST", f"/v1/permission-requests/{request_id}/approve", json=body)
    call.show(done, lambda: print_text(f"approved {request_id}"))


@verb(app, "deny")
def deny(call: Call, request_id: RequestArgument, reason: Reason = "") -> None:
    """Refuse a request."""
    done = call.ask("POST", f"/v1/permission-requests/{request_id}/deny", json={"reason": reason})
    call.show(done, lambda: print_text(f"denied {request_id}"))


@verb(app, "grants")
def grants(call: Call, plugin_id: Annotated[str, typer.Argument(metavar="PLUGIN")]) -> None:
    """List what a plugin may do now."""
    found = call.ask("GET", f"/v1/plugins/{plugin_id}/permissions")
    rows = [{**grant, "place": f"{grant['file']}:{grant['line']}"} for grant in found["grants"]]
    call.show(found, lambda: print_table(_GRANTS, rows, empty=f"`{plugin_id}` has no grants"))


@verb(app, "revoke")
def revoke(
    call: Call,
    plugin_id: Annotated[str, typer.Argument(metavar="PLUGIN")],
    reason: Reason = "",
    permission: Annotated[str | None, typer.Option("--permission", help="Only this one, as vault_read.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", help="Only for this scope.")] = None,
) -> None:
    """Take one grant or all grants of a plugin away at once; running work is killed."""
    body = {"reason": reason, "permission": permission, "scope": scope}
    given = {name: value for name, value in body.items() if value is not None}
    done = call.ask("POST", f"/v1/plugins/{plugin_id}/permissions/revoke", json=given)
    call.show(done, lambda: print_text(f"revoked {len(done.get('revoked', ()))} grants of {plugin_id}"))


@verb(app, "export")
def export(
    call: Call,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
) -> None:
    """Write every grant and request as versioned JSON."""
    from gateway.cli.files import write_text

    body = call.ask("GET", "/v1/permissions/export")
    if output is None:
        print_json(body)
        return
    import json

    write_text(output, json.dumps(body, indent=2) + "\n")
    note(f"written to {output}")
    if call.as_json:
        print_json({"file": str(output)})


@verb(app, "import")
def import_file(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `permission export` wrote.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
    reason: Reason = "",
) -> None:
    """Grant what an export holds and this home lacks: all of it, or nothing; nothing is ever taken away by it."""
    from gateway.cli.files import read_json
    from gateway.errors import UsageError

    body = read_json(file)
    if not isinstance(body, dict):
        raise UsageError(f"`{file}` is not an export", way_out="`hearthgate permission export -o FILE` writes one")
    shown = call.ask("POST", "/v1/permissions/import", json=body, params={"dry_run": "true"})
    if not call.as_json:
        print_table(_DIFFERENCE, _difference(shown), empty="nothing to grant: all of it is in force")
    if dry_run:
        call.show(shown, lambda: note(f"would grant {len(shown['add'])}; nothing was changed"))
        return
    done = call.ask("POST", "/v1/permissions/import", json={**body, "reason": reason})
    call.show(done, lambda: print_text(f"granted {len(done['add'])}"))


@verb(app, "unused")
def unused(
    call: Call, days: Annotated[int, typer.Option("--days", help="Not used for so many days, or never.")] = 90
) -> None:
    """List the grants that nobody needs: never used, or not lately, as the log tells it."""
    found = call.ask("GET", "/v1/permissions/unused", params={"days": str(days)})
    call.show(found, lambda: print_table(_UNUSED, found["grants"], empty="every grant was used"))


def _difference(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, "what": word} for word in ("add", "by_rule", "only_here") for each in shown[word]]


def _summary(request: dict[str, Any]) -> str:
    if "difference" in request:
        changes = [f"{change['what']}: {change['text']}" for change in request["difference"]]
        return "\n".join([f"version {request['from_version']} -> {request['version']}", *changes])
    asked = [f"{_one(each)}{_included(each)}{_left(each, request)}" for each in request["permissions"]]
    lacking = [
        f"`{each['capability']}` needs {_one(each)}, which is not asked for"
        for each in request.get("requires", ())
        if not each["given"]
    ]
    return "\n".join([*asked, *lacking])


def _one(permission: dict[str, Any]) -> str:
    return f"{permission['permission']} {permission.get('scope') or ''}".strip()


def _included(permission: dict[str, Any]) -> str:
    names = permission.get("includes")
    return f" (includes {', '.join(names)})" if names else ""


def _left(permission: dict[str, Any], request: dict[str, Any]) -> str:
    """Tell what a person left out of it, or added to it; nothing where it was not answered, or answered whole."""
    if "given" not in request:
        return ""
    same = [each for each in request["given"] if _one(each) == _one(permission)]
    if not same:
        return ": left out"
    conditions = [each["condition"] for each in same]
    return "" if permission["condition"] in conditions else f": given with {conditions[0]}"
