"""The shape of a decision, as JSON Schema."""

from typing import Any

from gateway.domain.decision import Effect, Reason
from gateway.domain.risk import MAX_SCORE, Tier

_TEXT = {"type": "string"}
_RULE: dict[str, Any] = {"id": _TEXT, "file": _TEXT, "line": {"type": "integer", "minimum": 1}}


def decision_schema() -> dict[str, Any]:
    """Give the JSON Schema of a decision; members may be added to a decision, never taken away."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hearthgate:schema:decision",
        "title": "Decision",
        **_object(
            decision_id=_TEXT,
            effect=_one_of(Effect),
            reason=_one_of(Reason),
            rule={"anyOf": [_object(**_RULE, why=_TEXT), {"type": "null"}]},
            near_misses=_list(_object(**_RULE, unmet=_list(_TEXT))),
            spoke=_list(_object(**_RULE, why=_TEXT, effect=_one_of(Effect))),
            subject=_TEXT,
            user={"type": ["string", "null"]},
            permission=_TEXT,
            kind=_TEXT,
            level=_TEXT,
            scope=_TEXT,
            risk=_object(
                score={"type": "integer", "minimum": 0, "maximum": MAX_SCORE},
                tier=_one_of(Tier),
                parts=_list(_object(name=_TEXT, points={"type": "integer"})),
            ),
            policy_version=_TEXT,
            generation={"type": "integer", "minimum": 0},
            mode=_TEXT,
            at={"type": "string", "format": "date-time"},
            dry_run={"type": "boolean"},
        ),
    }


def _object(**members: Any) -> dict[str, Any]:  # noqa: ANN401 (any JSON Schema)
    return {"type": "object", "properties": members, "required": list(members)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _one_of(words: type[Effect] | type[Reason] | type[Tier]) -> dict[str, Any]:
    return {"enum": [word.value for word in words]}
