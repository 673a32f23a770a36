"""What plugins need of each other: which versions will do, what is missing, and circles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.request import Json
from gateway.domain.version import parse_range, parse_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A registered plugin, as far as others may need it."""

    version: str
    active: bool
    depends_on: Mapping[str, str]  # plugin id -> range of versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that a plugin needs; `problem` is None where it is there."""

    by: str
    plugin_id: str
    wanted: str
    version: str | None
    problem: str | None

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "by": self.by,
            "plugin_id": self.plugin_id,
            "wanted": self.wanted,
            "version": self.version,
            "problem": self.problem,
        }


def needs_of(plugin_id: str, plugins: Mapping[str, Known]) -> Iterator[Need]:
    """Give all that a plugin needs, and all that these need, each once.

    WHY: of each id there is one version, so there is nothing to choose from, and nothing to search.
    """
    seen: set[str] = {plugin_id}
    waiting = [plugin_id]
    while waiting:
        by = waiting.pop(0)
        for wanted_id, wanted in sorted(plugins[by].depends_on.items()):
            known = plugins.get(wanted_id)
            version = None if known is None else known.version
            problem = _problem(known, wanted)
            if known is not None and parse_version(known.version) not in parse_range(wanted):
                others = (each for each in sorted(plugins) if each != by and plugins[each].active)
                wanting = {each: plugins[each].depends_on.get(wanted_id) for each in others}
                problem = f"{problem}{''.join(f', and `{each}` needs {one}' for each, one in wanting.items() if one)}"
            yield Need(by=by, plugin_id=wanted_id, wanted=wanted, version=version, problem=problem)
            if known is not None and wanted_id not in seen:
                seen.add(wanted_id)
                waiting.append(wanted_id)


def conflicts_of(plugin_id: str, plugins: Mapping[str, Known]) -> Iterator[Need]:
    """Give the needs of active plugins that this plugin's version does not meet."""
    version = plugins[plugin_id].version
    for by, known in sorted(plugins.items()):
        wanted = known.depends_on.get(plugin_id)
        if (
            by != plugin_id
            and known.active
            and wanted is not None
            and parse_version(version) not in parse_range(wanted)
        ):
            problem = f"`{by}` needs {wanted}"
            yield Need(by=by, plugin_id=plugin_id, wanted=wanted, version=version, problem=problem)


def find_circle(plugin_id: str, plugins: Mapping[str, Known]) -> Sequence[str]:
    """Give a circle of needs that goes through a plugin, beginning and ending with it; empty if there is none."""
    came_from: dict[str, str] = {}
    waiting = [plugin_id]
    while waiting:
        by = waiting.pop(0)
        for wanted in sorted(plugins[by].depends_on if by in plugins else ()):
            if wanted == plugin_id:
                way = [by]
                while way[-1] != plugin_id:
                    way.append(came_from[way[-1]])
                return [*reversed(way), plugin_id]
            if wanted not in came_from:
                came_from[wanted] = by
                waiting.append(wanted)
    return ()


def _problem(known: Known | None, wanted: str) -> str | None:
    if known is None:
        return "it is not registered"
    if parse_version(known.version) not in parse_range(wanted):
        return f"its version is {known.version}"
    return None if known.active else "it is not active"
