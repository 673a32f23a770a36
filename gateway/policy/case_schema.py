"""The JSON Schema of tests/*.toml, for editors."""

from typing import Any

from gateway.domain.decision import Effect, Reason
from gateway.domain.permission import PERMISSIONS
from gateway.domain.risk import MAX_SCORE

_MOST_USED = 10**9
_TEXT = {"type": "string"}
_ATTRIBUTES = {"type": "object", "description": "What conditions ask for, by name."}


def case_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a file of cases; whatever is taken as one fits it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hearthgate:schema:policy-test",
        "title": "Cases of a policy",
        **_table(case={"type": "array", "description": "Judged before every edit takes effect.", "items": _case()}),
    }


def _case() -> dict[str, Any]:
    return _table(
        ("name", "ask", "want"),
        name={**_TEXT, "description": "What must stay true."},
        ask=_table(
            ("subject", "kind", "level", "scope"),
            subject={**_TEXT, "description": "As plugin:notes."},
            kind={**_TEXT, "description": "As vault."},
            level={**_TEXT, "description": "As read; of any other kind an action's name."},
            scope={**_TEXT, "description": "As user_data/diary; no pattern."},
        ),
        given=_given(),
        want=_one_of(Effect),
        rule={**_TEXT, "description": "The id of the rule that decides."},
        near_miss={**_TEXT, "description": "The id of a rule that would allow it but for its condition."},
        reason=_one_of(Reason),
        with_grants={"type": "boolean", "description": "Whether grants.csv counts.", "default": False},
    )


def _given() -> dict[str, Any]:
    permissions = "|".join(sorted(PERMISSIONS))
    return _table(
        at={
            "description": "When; a Wednesday's noon UTC if it is not said.",
            "type": "string",
            "format": "date-time",
        },
        user={**_TEXT, "description": "On whose behalf."},
        roles={"type": "array", "items": _TEXT, "description": "Added to those of roles.csv, as tier:low."},
        consents={
            "type": "array",
            "description": "As vault_read user_data/diary.",
            "items": {"type": "string", "pattern": f"^({permissions}) .+"},
        },
        approved={"type": "boolean", "description": "Whether a person approved this very call.", "default": False},
        risk={"type": "integer", "minimum": 0, "maximum": MAX_SCORE, "description": "In place of the score."},
        used={
            "type": "object",
            "description": "How much of a rule's rate is used, by its id.",
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": _MOST_USED},
        },
        context=_ATTRIBUTES,
        resource=_ATTRIBUTES,
        args=_ATTRIBUTES,
    )


def _table(required: tuple[str, ...] = (), **members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": [*required], "additionalProperties": False}


def _one_of(words: type[Effect | Reason]) -> dict[str, Any]:
    return {"enum": [word.value for word in words]}
