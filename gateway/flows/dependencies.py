"""What a plugin needs of other plugins: told when it is registered, and there before it is approved."""

from collections.abc import Mapping

from gateway.domain.dependencies import Known, Need, conflicts_of, find_circle, needs_of
from gateway.domain.lifecycle import State
from gateway.domain.manifest import Manifest
from gateway.errors import ConflictError
from gateway.flows.parts import Parts

_GONE = frozenset({State.REVOKED, State.UNINSTALLED})


def dependencies(parts: Parts, manifest: Manifest) -> tuple[Need, ...]:
    """Give all that a plugin needs, and what is wrong with it."""
    return tuple(needs_of(manifest.plugin_id, _with(parts, manifest))) if manifest.depends_on else ()


def check_no_circle(parts: Parts, manifest: Manifest) -> None:
    """Refuse a manifest by which plugins would need each other in a circle.

    Raises:
        ConflictError: naming the whole circle.
    """
    if circle := find_circle(manifest.plugin_id, _with(parts, manifest)):
        raise ConflictError(
            f"depends_on: a circle: {' -> '.join(circle)}", way_out="plugins that need each other are one plugin"
        )


def check_dependencies(parts: Parts, manifest: Manifest) -> None:
    """Refuse to let a plugin become active whose needs are not met, or whose version others cannot use.

    Raises:
        ConflictError: naming each of them.
    """
    check_no_circle(parts, manifest)
    plugins = _with(parts, manifest)
    wrong = [each for each in needs_of(manifest.plugin_id, plugins) if each.problem is not None]
    wrong += conflicts_of(manifest.plugin_id, plugins)
    if wrong:
        told = "; ".join(
            f"`{each.by}` needs `{each.plugin_id}` {each.wanted}: {each.problem}"
            if each.plugin_id != manifest.plugin_id
            else f"`{each.plugin_id}` is {each.version}, and {each.problem}"
            for each in wrong
        )
        raise ConflictError(
            f"what `{manifest.plugin_id}` depends on does not fit: {told}",
            way_out="register and approve what is missing, in versions that fit",
            extra={"depends_on": [each.as_json() for each in wrong]},
        )


def _with(parts: Parts, manifest: Manifest) -> Mapping[str, Known]:
    found = {
        str(each.id): Known(
            version=each.manifest.version, active=each.state is State.ACTIVE, depends_on=each.manifest.depends_on
        )
        for each in parts.registry.plugins.all()
        if each.state not in _GONE
    }
    own = Known(version=manifest.version, active=True, depends_on=manifest.depends_on)
    return {**found, str(manifest.plugin_id): own}
