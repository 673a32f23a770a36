"""What the index keeps of one record: the facets that filters ask for, and the words that people look for."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.audit.leaf import microseconds
from gateway.domain.risk import MAX_SCORE

MAX_WORDS = 16_384  # characters of a record that can be found by their words
_RISK_STEP = 10
_MEMBERS = ("event_type", "plugin_id", "user_id", "resolution", "trace_id")
_OF_DECISION = ("permission", "scope", "subject", "user", "reason", "consent_id", "approval_id")
_OF_RULE = ("id", "file", "why")

Facet = tuple[str, str]  # its name, and the value that a record has


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as the index sees it."""

    seq: int
    ts_us: int
    facets: tuple[Facet, ...]
    words: str


def entry_of(row: dict[str, Any]) -> Entry:
    """Take what the index keeps from a record as people see it."""
    return Entry(
        seq=row["seq"],
        ts_us=microseconds(datetime.fromisoformat(row["timestamp"])),
        facets=facets_of(row),
        words=words_of(row),
    )


def facets_of(row: dict[str, Any]) -> tuple[Facet, ...]:
    """Give what filters ask for of a record, each once."""
    return tuple(dict.fromkeys(_facets(row)))


def risks_from(score: int) -> list[Facet]:
    """Give facets of which every record with at least this risk has one, and no other has any."""
    step = -(-score // _RISK_STEP) * _RISK_STEP
    between = [("risk", f"{each}") for each in range(score, min(step, MAX_SCORE + 1))]
    return between if step > MAX_SCORE else [*between, ("risk_from", f"{step}")]


def words_of(row: dict[str, Any]) -> str:
    """Give the text of a record in which words are looked for."""
    texts: list[str] = []
    _say(row, texts)
    return "\n".join(texts).replace("\x00", " ")[:MAX_WORDS]


def _facets(row: dict[str, Any]) -> Iterator[Facet]:
    yield "event_type", row["event_type"]
    yield "category", row["category"]
    risk = int(row["risk_score"])
    yield "risk", f"{risk}"
    for step in range(0, risk + 1, _RISK_STEP):
        yield "risk_from", f"{step}"
    if row["plugin_id"] is not None:
        yield "plugin", row["plugin_id"]
    if row["user_id"] is not None:
        yield "user", str(row["user_id"])
    decision = row["decision"]
    if decision is not None:
        yield "effect", decision["effect"]
        if decision.get("user") is not None:
            yield "user", str(decision["user"])
        if decision.get("rule") is not None:
            yield "rule", decision["rule"]["id"]


def _say(row: dict[str, Any], texts: list[str]) -> None:
    texts += [str(row[name]) for name in _MEMBERS if row[name] is not None]
    decision = row["decision"]
    if decision is not None:
        texts += [str(decision[name]) for name in _OF_DECISION if decision.get(name) is not None]
        rule = decision.get("rule")
        if rule is not None:
            texts += [str(rule[name]) for name in _OF_RULE]
        if decision.get("near_misses"):
            _say_leaves(decision["near_misses"], texts)
    if row["details"]:
        _say_leaves(row["details"], texts)


def _say_leaves(value: object, texts: list[str]) -> None:
    match value:
        case str():
            texts.append(value)
        case None | bool():
            return
        case dict():
            for each in value.values():
                _say_leaves(each, texts)
        case list():
            for each in value:
                _say_leaves(each, texts)
        case _:
            texts.append(str(value))
