"""What a new manifest asks for beyond the one in force, apart from permissions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.domain.isolation import Isolation
from gateway.domain.manifest import Capability, Manifest
from gateway.domain.reloading import reload_wish
from gateway.domain.request import Json

_SAFEST_FIRST = tuple(Isolation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a new manifest wants more of; `what` is a word, `text` a sentence's part."""

    what: str
    text: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"what": self.what, "text": self.text}


def wider_manifest(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """Say what `after` wants beyond `before`; permissions and limits are for others to compare."""
    return tuple(Change(what=what, text=text) for what, text in _wider(before, after))


def wider_limits(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[Change, ...]:
    """Say which limits of one call grow; infinite where there is none."""
    return tuple(
        Change(what="limit", text=f"{name}: {_number(after[name])}, it was {_number(value)}")
        for name, value in before.items()
        if after[name] > value
    )


def _number(value: float) -> str:
    return "no limit" if value == float("inf") else f"{value:g}"


def _wider(before: Manifest, after: Manifest) -> Iterator[tuple[str, str]]:
    yield from _wider_sandbox(before, after)
    yield from _other_server(before, after)
    if before.name != after.name:
        yield "name", f"`{after.name[:80]}`, it was `{before.name[:80]}`"
    for event, function in after.hooks.items():
        if before.hooks.get(event) != function:
            yield "lifecycle_hooks", f"{event}: `{function}`"
    yield from _other_purposes(before, after)
    for capability in after.capabilities:
        yield from _wider_capability(before.capability(capability.name), capability)
    for gate in ("code_review_required", "security_scan"):
        if before.raw.get(gate) is True and after.raw.get(gate) is not True:
            yield gate, "no longer"
    if reload_wish(after).live and not reload_wish(before).live:
        yield "live_reload", "its edits would be taken over by themselves"


def _other_server(before: Manifest, after: Manifest) -> Iterator[tuple[str, str]]:
    if (before.runtime, before.command) != (after.runtime, after.command):
        yield "command", f"{after.runtime.value}: {' '.join(after.command) or 'its own code'}"


def _wider_sandbox(before: Manifest, after: Manifest) -> Iterator[tuple[str, str]]:
    if before.sandbox and not after.sandbox:
        yield "sandbox", "no sandbox"
    old, new = before.isolation or Isolation.PRISTINE, after.isolation or Isolation.PRISTINE
    if _SAFEST_FIRST.index(new) > _SAFEST_FIRST.index(old):
        yield "isolation", f"{new.value}, it was {old.value}"
    for path in after.file_access:
        if not any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in before.file_access):
            yield "file_access", f"`{path}`"
    for member in ("network_access", "system_commands"):
        yield from ((member, f"`{each}`") for each in sorted(_named(after, member) - _named(before, member)))


def _other_purposes(before: Manifest, after: Manifest) -> Iterator[tuple[str, str]]:
    # SECURITY: people said yes to this purpose; another one is another question.
    said = {(each.permission, each.scope): each.purpose for each in before.permissions}
    for each in after.permissions:
        purpose = said.get((each.permission, each.scope))
        if purpose and each.purpose != purpose:
            yield "purpose", f"{each.permission} on `{each.scope}` is wanted for something else"


def _wider_capability(before: Capability | None, after: Capability) -> Iterator[tuple[str, str]]:
    if before is None:
        yield "capability", f"`{after.name}` is new"
        return
    # SECURITY: callers, and models among them, choose a capability by these words.
    if before.description != after.description:
        yield "capability", f"`{after.name}` is described otherwise"
    if before.input_schema != after.input_schema:
        yield "capability", f"`{after.name}` takes other parameters, or describes them otherwise"
    if (before.tool, before.definition) != (after.tool, after.definition):
        yield "capability", f"`{after.name}` is another tool, or one that is defined otherwise"
    gone = set(before.requires) - set(after.requires)
    for permission, scope in sorted(gone):
        yield "requires", f"`{after.name}` no longer requires {permission} on `{scope}`"
    if after.idempotent and not before.idempotent:
        yield "capability", f"`{after.name}` may be repeated"


def _named(manifest: Manifest, member: str) -> set[str]:
    config = manifest.raw.get("sandbox_config")
    values = config.get(member) if isinstance(config, Mapping) else None
    return {str(each) for each in values} if isinstance(values, list | tuple) else set()
