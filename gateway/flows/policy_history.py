"""To look back, and to go back: the generations of the policy, and what an earlier one would mean today."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.request import Json
from gateway.errors import ConflictError, NotFoundError
from gateway.flows.build_policy import build
from gateway.flows.memberships import active_plugins
from gateway.flows.parts import Parts
from gateway.policy.diff import compare
from gateway.policy.layout import difference
from gateway.policy.text import GRANTS, PolicyText, is_case_file
from gateway.policy_files import read_policy_folder

_ACTIVATED = Filter(event_type="policy_activated")
_PAGE = 200


def history(parts: Parts, reader: LogReader, *, limit: int) -> list[dict[str, Json]]:
    """Give the newest generations: who put them in force, when, why, and what they changed.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    page = reader.find(_ACTIVATED, limit=limit)
    return [_generation(parts, row) for row in page.rows]


def _generation(parts: Parts, row: Mapping[str, Any]) -> dict[str, Json]:
    details = row["details"]
    before, after = details["from_version"], details["policy_version"]
    texts = [PolicyText({}) if version is None else parts.registry.sets.read(version) for version in (before, after)]
    kept = texts[0] is not None and texts[1] is not None
    return {
        "generation": details["generation"],
        "version": after,
        "from_version": before,
        "by": row["user_id"],
        "known_by": details.get("known_by"),
        "at": row["timestamp"],
        "why": details["why"],
        "rules": details["rules"],
        "difference": difference(*texts) if kept else None,  # type: ignore[arg-type] # both are there
    }


async def look_back(parts: Parts, reader: LogReader, generation: int) -> dict[str, Json]:
    """Give what people wrote for an earlier generation, checked with today's grants and cases, and what it changes.

    Raises:
        NotFoundError: there was no such generation, or it is not kept.
        ConflictError: the files changed since the last activation, or no policy is in force.
        PolicyBrokenError: it would not be good today: problems, or failing cases, are named.
    """
    current = parts.policy.get()
    here = await asyncio.to_thread(read_policy_folder, parts.policies)
    if current is None or here.version != current.version:
        raise ConflictError(
            "the policy files changed since the last activation", way_out="mend or undo that edit first"
        )
    old = await asyncio.to_thread(_text_of, parts, reader, generation)
    restored = _with_grants(old, here)
    tested = _with_cases(restored, here)
    for text in (tested, restored):
        made = await asyncio.to_thread(build, parts, text, generation=current.generation)
    found = await asyncio.to_thread(partial(compare, current.parsed, made.parsed, active=active_plugins(parts)))
    return {
        "generation": generation,
        "files": {path: data.decode(errors="surrogateescape") for path, data in restored.files.items()},
        "difference": difference(here, restored),
        "newly_allows": [each.as_json() for each in found.differences if each.widens],
        "tiers": [each.as_json() for each in found.tiers],
        "own_model": found.own_model,
    }


def _text_of(parts: Parts, reader: LogReader, generation: int) -> PolicyText:
    row = next((row for row in _activations(reader) if row["details"]["generation"] == generation), None)
    if row is None:
        raise NotFoundError(f"there was no generation {generation}", way_out="`hearthgate policy log`")
    text = parts.registry.sets.read(row["details"]["policy_version"])
    if text is None:
        raise NotFoundError(f"the files of generation {generation} are not kept")
    return text


def _activations(reader: LogReader) -> Iterator[Mapping[str, Any]]:
    page = reader.find(_ACTIVATED, limit=_PAGE)
    yield from page.rows
    while page.cursor is not None:
        page = reader.find(_ACTIVATED, limit=_PAGE, cursor=page.cursor)
        yield from page.rows


def _with_grants(old: PolicyText, here: PolicyText) -> PolicyText:
    """Take what people wrote from one text and what was granted from the other."""
    return old.with_file(GRANTS, here.files.get(GRANTS))


def _with_cases(restored: PolicyText, here: PolicyText) -> PolicyText:
    """Put today's cases in the place of the earlier ones."""
    others = {path: data for path, data in restored.files.items() if not is_case_file(path)}
    return PolicyText({**others, **{path: here.files[path] for path in here.case_files}})
