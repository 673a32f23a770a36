"""To look over a plugin's folder without a gateway: what would be refused, fail or surprise, each at its place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.domain.manifest import Manifest, Runtime
from gateway.errors import MalformedError, NotFoundError, Place, Problem
from gateway.registry.folder import PluginFolder, read_plugin_folder
from gateway.registry.inspection.source import read_source
from gateway.registry.json_places import line_of
from gateway.registry.lint_rights import Use, uncovered, unused
from gateway.registry.manifest import MANIFEST_FILE, parse_manifest

_PLACE = re.compile(r"[$A-Za-z_][^: ]*(?=: )")


def lint_plugin(folder: Path) -> list[Problem]:
    """Give every problem of a plugin's folder, errors and warnings, by file and line; runs none of its code."""
    try:
        files = read_plugin_folder(folder)
    except NotFoundError as error:
        return [_at(".", None, str(error))]
    except MalformedError as error:
        return list(error.problems) or [_at(".", None, str(error))]
    text = next((content.decode() for path, _, content in files.files if path == MANIFEST_FILE), None)
    if text is None:
        return [_at(MANIFEST_FILE, None, "there is none", way_out="`hearthgate plugin new ID` writes a first one")]
    sources = {path: content for path, _, content in files.files if path.endswith(".py")}
    problems: list[Problem] = []
    entry_point = "main.py"
    manifest = None
    try:
        manifest = parse_manifest(files.manifest)
        entry_point = manifest.entry_point
        problems += manifest.warnings
    except MalformedError as error:
        problems += error.problems or [_at(MANIFEST_FILE, 1, str(error))]
    found = read_source(sources, entry_point)
    problems += [_at(each["file"], each["line"], f"syntax: {each['message']}") for each in found["errors"]]
    if manifest is not None:
        broken = any(each["file"] == entry_point for each in found["errors"])
        problems += _of_manifest_and_code(manifest, folder, files, found, broken=broken)
    placed = [_placed(each, text) for each in problems]
    return sorted(placed, key=lambda each: (each.place.file != MANIFEST_FILE, each.place.file, each.place.line or 0))


def _of_manifest_and_code(
    manifest: Manifest, folder: Path, files: PluginFolder, found: Mapping[str, Any], *, broken: bool
) -> Iterator[Problem]:
    if manifest.plugin_id != folder.resolve().name:
        yield _at(MANIFEST_FILE, None, f"plugin_id: the folder is named `{folder.resolve().name}`, and must be like it")
    if not manifest.sandbox:
        yield _at(MANIFEST_FILE, None, "sandbox: false is refused, unless the operator names the plugin")
    names = {path for path, _, _ in files.files}
    if manifest.requirements is not None and manifest.requirements not in names:
        yield _at(MANIFEST_FILE, None, f"requirements: there is no file `{manifest.requirements}`")
    if manifest.entry_point not in names:
        yield _at(MANIFEST_FILE, None, f"entry_point: there is no file `{manifest.entry_point}`")
    elif not broken and manifest.runtime is Runtime.PYTHON:
        yield from _functions(manifest, found["functions"])
        yield from _parameters(manifest, found["functions"])
    uses = [Use.of(each) for each in found["uses"]]
    for use in uses:
        if (said := uncovered(use, manifest)) is not None:
            yield _at(use.file, use.line, said)
    if not found["errors"] and manifest.runtime is Runtime.PYTHON:
        yield from (
            _at(MANIFEST_FILE, None, f"{place}: {said}", severity="warning")
            for place, said in unused(manifest, uses, frozenset(found["imports"]))
        )


def _functions(manifest: Manifest, functions: Mapping[str, Any]) -> Iterator[Problem]:
    wanted = {each.name: f"capabilities[{number}].name" for number, each in enumerate(manifest.capabilities)}
    wanted |= {function: f"lifecycle_hooks.{event}" for event, function in manifest.hooks.items()}
    if isinstance(test := manifest.raw.get("self_test"), str):
        wanted[test] = "self_test"
    if not manifest.capabilities:
        wanted["execute"] = "capabilities"
    for name, place in wanted.items():
        if name not in functions:
            yield _at(MANIFEST_FILE, None, f"{place}: `{manifest.entry_point}` has no function `{name}`")
    for each in manifest.capabilities:
        known = functions.get(each.name)
        if known is None or known["async"] is None or known["async"] == each.asynchronous:
            continue
        if known["async"]:
            said = f'`{each.name}` is an `async def`: write `def`, or `"async_support": true` in its capability'
            yield _at(manifest.entry_point, known["line"], said)
        else:
            said = f"`{each.name}` is no `async def`, and its capability has async_support"
            yield _at(manifest.entry_point, known["line"], said, severity="warning")


def _parameters(manifest: Manifest, functions: Mapping[str, Any]) -> Iterator[Problem]:
    wanted = {
        each.name: {name: part.needed for name, part in each.parameters.items()} for each in manifest.capabilities
    }
    if not manifest.capabilities:
        wanted = {"execute": {"payload": True}}
    for name, given in wanted.items():
        known = functions.get(name) or {}
        takes = known.get("takes")
        if takes is None:
            continue
        for each in sorted(set(given) - set(takes["names"])) if not takes["any"] else ():
            yield _at(manifest.entry_point, known["line"], f"`{name}` takes no `{each}`, which a call gives it")
        for each in takes["needed"]:
            if each not in given:
                said = f"`{name}` needs `{each}`, which no call gives it"
                yield _at(manifest.entry_point, known["line"], said)
            elif not given[each]:
                said = f"`{name}` needs `{each}`, which a call may leave out: give it a default"
                yield _at(manifest.entry_point, known["line"], said)


def _at(file: str, line: int | None, message: str, *, severity: str = "error", way_out: str | None = None) -> Problem:
    told = message if way_out is None else f"{message}: {way_out}"
    return Problem(place=Place(file=file, line=line), message=told, severity=severity)


def _placed(problem: Problem, text: str) -> Problem:
    """Give a problem of the manifest its line."""
    if problem.place.file != MANIFEST_FILE or problem.place.line is not None:
        return problem
    path = _PLACE.match(problem.message)
    return replace(problem, place=Place(file=MANIFEST_FILE, line=line_of(text, path[0]) if path else 1))
