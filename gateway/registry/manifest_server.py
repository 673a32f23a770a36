"""What a manifest must say of an MCP server, and may not say of one, or of anything else."""

import json
import re
from collections.abc import Iterator

from gateway.domain.manifest import OWN_PROGRAM, PROGRAM_NAME, Runtime
from gateway.registry.manifest_file import ManifestFile

_PROGRAM = re.compile(PROGRAM_NAME)
_DEFINITION = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_WORDS, _LONGEST_WORD, _MOST_BYTES = 64, 4096, 32 << 10


def server_faults(file: ManifestFile) -> Iterator[tuple[str, str]]:
    """Give the place and the sentence of each."""
    yield from _of_server(file) if Runtime(file.runtime) is Runtime.MCP_STDIO else _of_code(file)


def _of_code(file: ManifestFile) -> Iterator[tuple[str, str]]:
    only = f'is for `"runtime": "{Runtime.MCP_STDIO.value}"`'
    if file.command:
        yield "command", only
    for index, each in enumerate(file.capabilities):
        for member in ("tool", "definition"):
            if getattr(each, member) is not None:
                yield f"capabilities[{index}].{member}", only


def _of_server(file: ManifestFile) -> Iterator[tuple[str, str]]:
    yield from _of_command(file)
    not_here = f'is not for `"runtime": "{Runtime.MCP_STDIO.value}"`'
    for member in ("entry_point", "lifecycle_hooks", "self_test"):
        if member in file.model_fields_set:
            yield member, not_here
    if file.isolation == "fork":
        yield "isolation", f"`fork` {not_here}"
    if not file.capabilities:
        yield "capabilities", "name the tools that callers may have: `hearthgate plugin tools` lists them"
    tools: set[str] = set()
    for index, each in enumerate(file.capabilities):
        here = f"capabilities[{index}]"
        if each.definition is None or not _DEFINITION.fullmatch(each.definition):
            yield f"{here}.definition", "must be `sha256:` and 64 digits: `hearthgate plugin tools --map` writes it"
        if (tool := each.tool or each.name) in tools:
            yield f"{here}.tool", f"`{tool[:80]}` is named twice"
        tools.add(tool)
        for member in ("async_support", "batch_support"):
            if getattr(each, member):
                yield f"{here}.{member}", not_here


def _of_command(file: ManifestFile) -> Iterator[tuple[str, str]]:
    if not file.command:
        yield "command", 'must name what is started, as `["node", "dist/index.js"]`'
        return
    # SECURITY: a name, and no path: which program of the host it is, is the operator's to say.
    if not _PROGRAM.fullmatch(file.command[0]):
        yield (
            "command[0]",
            f"`{file.command[0][:80]}`: `{OWN_PROGRAM}`, or a name that `[sandbox.programs]` gives a program",
        )
    for index, word in enumerate(file.command):
        if "\0" in word or len(word) > _LONGEST_WORD:
            yield f"command[{index}]", f"at most {_LONGEST_WORD} characters, without NUL"
    if len(file.command) > _MOST_WORDS:
        yield "command", f"{_MOST_WORDS} words at most"
    if len(json.dumps(file.command)) > _MOST_BYTES:
        yield "command", f"at most {_MOST_BYTES >> 10} KiB, as JSON: put what is longer into a file beside the manifest"
    if file.requirements is not None and file.command[0] != OWN_PROGRAM:
        yield "requirements", f"packages are for `{OWN_PROGRAM}`"
