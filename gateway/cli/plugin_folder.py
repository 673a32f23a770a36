"""A plugin's folder: found in the home, or brought there."""

import json
import shutil
import tempfile
from pathlib import Path

from gateway.domain.names import PluginId, parse_plugin_id
from gateway.errors import ConflictError, MalformedError, NotFoundError

_MAX_MANIFEST_BYTES = 1 << 20
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")


def bring_home(name: str, home: Path) -> tuple[PluginId, bool]:
    """Give the plugin id of a folder, and whether it was copied into `home/plugins` for that.

    `name` is a folder, or the name of one in the home's `plugins`.

    Raises:
        NotFoundError: there is no such folder, or it has no manifest.
        ConflictError: the home has another folder of that plugin id.

    """
    folder = _find(name, home)
    plugin_id = _read_plugin_id(folder / "manifest.json")
    place = home / "plugins" / plugin_id
    if place.exists():
        if not place.samefile(folder):
            raise ConflictError(
                f"`{place}` is there already", way_out=f"edit it there, or register it as `{plugin_id}`"
            )
        return plugin_id, False
    if place.parent.exists() and place.parent.samefile(folder.parent):
        raise MalformedError(
            f"`{folder}` holds the plugin `{plugin_id}`", way_out=f"rename the folder to `{plugin_id}`"
        )
    _copy(folder, place)
    return plugin_id, True


def _find(name: str, home: Path) -> Path:
    refused: PermissionError | None = None
    for folder in (Path(name), home / "plugins" / name):
        try:
            if (folder / "manifest.json").is_file():
                return folder.resolve()
        except PermissionError as error:
            # WHY: whoever is somebody else for one command stands in a folder that may not be theirs.
            refused = refused or error
    if refused is not None and Path(name).is_absolute():
        raise refused
    raise NotFoundError(
        f"`{name}` is no plugin: it has no manifest.json",
        way_out=f"name a folder that has one, or one in {home}/plugins",
    )


def _read_plugin_id(manifest: Path) -> PluginId:
    try:
        with manifest.open("rb") as file:
            body = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except (OSError, ValueError) as error:
        raise MalformedError(f"`{manifest}` cannot be read as JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("plugin_id"), str):
        raise MalformedError(f"`{manifest}` names no plugin_id")
    try:
        return parse_plugin_id(body["plugin_id"])
    except MalformedError:
        from gateway.registry.manifest import parse_manifest

        parse_manifest(body)  # tells all that is wrong, not the id alone
        raise


def _copy(folder: Path, place: Path) -> None:
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    if links:
        raise MalformedError(f"`{links[0]}` is a symbolic link", way_out="a plugin's folder holds its own files only")
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=place.parent) as parent:
        fresh = Path(parent, place.name)
        shutil.copytree(folder, fresh, ignore=_LEFT_OUT)
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(path.stat().st_mode & 0o755)
        fresh.rename(place)
