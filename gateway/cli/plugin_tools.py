"""The tools of a plugin that is an MCP server, looked at and taken into its manifest; without a gateway."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_table, print_text
from gateway.errors import MalformedError, NoHomeError

_EVERY = "all"
_COLUMNS = columns(tool="!tool", capability="capability", definition="state", description="description")
_SHORT = 60


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `plugin`."""
    verb(app, "tools")(tools)


def tools(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a plugin that is an MCP server.")],
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="TOOL", help="Write this tool into the manifest as it is now; or `all`."),
    ] = None,
) -> None:
    """Ask a server for its tools, in a cell where it has no rights, and compare them with its manifest."""
    from gateway.registry.server_tools import tool_names, with_tools

    manifest = _manifest(folder)
    told = _told(call, folder, manifest)
    if mapped:
        wanted = [str(each["name"]) for each in told] if _EVERY in mapped else mapped
        manifest = with_tools(manifest, told, wanted)
        _replace(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    rows = _rows(manifest, tool_names(manifest), told)

    def tell() -> None:
        print_table(_COLUMNS, rows, empty="the server has no tools")
        if mapped:
            print_text(f"written: {folder / 'manifest.json'}")
            note("next: say in `requires` what each call of them is to be asked for, then `hearthgate plugin lint`")

    call.show({"plugin_id": manifest["plugin_id"], "tools": rows}, tell)


def _rows(
    manifest: Mapping[str, Any], pinned: Mapping[str, str | None], told: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    from sandbox.stdio import definition_digest

    names = {str(each.get("tool") or each.get("name")): each.get("name") for each in manifest.get("capabilities") or []}
    known = {str(each["name"]): each for each in told}
    rows: list[dict[str, Any]] = []
    for name in sorted({*known, *pinned}):
        tool = known.get(name)
        digest = None if tool is None else definition_digest(tool)
        state = "hidden" if name not in pinned else "gone" if tool is None else "changed"
        rows.append(
            {
                "tool": name,
                "capability": names.get(name),
                "state": "as in the manifest" if digest is not None and digest == pinned.get(name) else state,
                "definition": digest,
                "description": str((tool or {}).get("description") or "").partition("\n")[0][:_SHORT],
            }
        )
    return rows


def _manifest(folder: Path) -> dict[str, Any]:
    from gateway.domain.names import parse_plugin_id
    from gateway.registry.folder import parse_json_strictly

    path = folder / "manifest.json"
    try:
        body = parse_json_strictly(path.read_bytes(), path.name)
    except OSError as error:
        raise MalformedError(f"`{path}` cannot be read: {error.strerror}") from None
    if not isinstance(body, dict) or body.get("runtime") != "mcp-stdio" or not isinstance(body.get("command"), list):
        raise MalformedError(
            f"`{path}` is not of an MCP server", way_out='write `"runtime": "mcp-stdio"` and `"command": [...]` there'
        )
    parse_plugin_id(str(body.get("plugin_id")))
    return body


def _told(call: Call, folder: Path, manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    from gateway.config import read_settings
    from gateway.executor.programs import Programs
    from gateway.executor.server_tools import list_tools, stand_ins
    from gateway.registry.folder import read_plugin_folder, store_snapshot
    from gateway.registry.packages import build_packages, packages_path
    from gateway.registry.server_tools import wanted_files
    from gateway.resources.views import own_place

    try:
        named = read_settings(call.home()).sandbox.programs
    except NoHomeError:
        if call.home_option is not None:
            raise
        named = {}
    command = [str(each) for each in manifest["command"]]
    if not command:
        raise MalformedError("command: must name what is started")
    program = Programs(named).find(command)
    read = read_plugin_folder(folder)
    with tempfile.TemporaryDirectory(prefix="hearthgate-tools-") as place:
        snapshot = store_snapshot(read, Path(place, "code"))
        (nothing := Path(place, "empty")).mkdir(mode=0o755)
        lock = manifest.get("requirements")
        packages = None
        if isinstance(lock, str):
            store = Path(place, "packages")
            content = next((data for path, _, data in read.files if path == lock), b"")
            build_packages(lock, content, store)
            packages = packages_path(store, content)
        wanted = [each for each in wanted_files(manifest) if own_place(each) is None]
        return list_tools(str(manifest["plugin_id"]), snapshot, program, stand_ins(nothing, wanted, program), packages)


def _replace(path: Path, text: str) -> None:
    """Write a file that is whole, or as it was."""
    mode = path.stat(follow_symlinks=False).st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(text)
        file.flush()
        # SECURITY: of this very file, for by its name another one may be found where the folder is somebody else's.
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    Path(file.name).replace(path)
