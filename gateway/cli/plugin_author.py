"""For who writes plugins: a new one, and a look over one, both without a gateway."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import note, print_text
from gateway.errors import ConflictError, NoHomeError

_FAILED = 1


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs to the noun `plugin`."""
    verb(app, "new")(new)
    verb(app, "lint")(lint)


def new(
    call: Call,
    plugin_id: Annotated[str, typer.Argument(metavar="ID", help="The new plugin's id, which names its folder.")],
    into: Annotated[
        Path | None,
        typer.Option("--in", metavar="DIR", help="Where its folder goes; else HOME/plugins, else the current folder."),
    ] = None,
) -> None:
    """Write the folder of a new plugin, which can be tested, registered, approved and run as it is."""
    from gateway.domain.names import parse_plugin_id
    from gateway.registry.scaffold import scaffold

    known = parse_plugin_id(plugin_id)
    folder = (into or _plugins_of(call)) / known
    files = scaffold(known)
    _write(folder, files)

    def tell() -> None:
        print_text(*(f"new  {folder / name}" for name in files))
        note(f"next: `hearthgate plugin lint {folder}`, then `hearthgate plugin register {folder}`")

    call.show({"plugin_id": known, "folder": str(folder), "files": [*files]}, tell)


def lint(
    call: Call, folder: Annotated[Path, typer.Argument(metavar="DIR", help="A plugin's folder; none of it is run.")]
) -> None:
    """Look a plugin's folder over without a gateway; exit 1 if something is wrong, 0 for warnings alone."""
    from gateway.registry.lint import lint_plugin

    found = lint_plugin(folder)
    errors = sum(each.severity == "error" for each in found)
    warnings = len(found) - errors
    body = {"ok": not errors, "errors": errors, "warnings": warnings, "problems": [each.as_json() for each in found]}

    def tell() -> None:
        print_text(*found)
        note(f"{errors} errors, {warnings} warnings" if found else "nothing is wrong")

    call.show(body, tell)
    if errors:
        raise typer.Exit(_FAILED)


def _plugins_of(call: Call) -> Path:
    try:
        return call.home() / "plugins"
    except NoHomeError:
        if call.home_option is not None:
            raise
        return Path()


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write a folder that is whole or not there."""
    if folder.exists() or folder.is_symlink():
        raise ConflictError(f"`{folder}` is there already", way_out="choose another id, or another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as parent:
        fresh = Path(parent, folder.name)
        fresh.mkdir(mode=0o755)
        for name, text in files.items():
            with (fresh / name).open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            (fresh / name).chmod(0o644)
        fresh.rename(folder)
