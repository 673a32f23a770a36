"""Conditions and scopes as a manifest spells them, in the words of a rule."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.permission import Kind
from gateway.domain.scope import canonical_pattern
from gateway.errors import MalformedError

_SUBTREE_KINDS = frozenset({Kind.VAULT, Kind.CORE, Kind.USER, Kind.PLUGIN, Kind.SYSTEM, Kind.FILE})
_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Part(BaseModel):
    """A JSON object of known members."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def listed(value: object) -> object:
    """Take a JSON list as the tuple that a frozen value holds."""
    return tuple(value) if isinstance(value, list) else value


MAX_TEXT_CHARS = 2000
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class TimeRestriction(Part):
    """Hours of some days in a zone."""

    days: Annotated[
        tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...],
        BeforeValidator(listed),
        Field(description="The days on which the hours begin; at least one.", json_schema_extra={"minItems": 1}),
    ]
    from_: Annotated[Clock, Field(alias="from", description="When it begins, as 09:00.")]
    to: Annotated[Clock, Field(description="When it ends; before `from` it is on the day after.")]
    tz: Annotated[Text, Field(description="The zone of the hours, as Europe/Berlin.")] = "UTC"


class RateLimit(Part):
    """At most `max` in `per` seconds."""

    max: Annotated[int, Field(ge=1, description="How often.")]
    per: Annotated[int, Field(ge=1, description="In how many seconds.")] = 60


class Conditions(Part):
    """Conditions the author puts on a permission; an unknown one is an error, for ignoring it would widen access."""

    time_restriction: Annotated[
        TimeRestriction | Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None,
        Field(description="Hours, or the name of a condition of the policy, as business_hours."),
    ] = None
    user_consent: Annotated[bool, Field(description="The user of the call must have consented.")] = False
    rate_limit: Annotated[
        RateLimit | Annotated[int, Field(ge=1)] | None,
        Field(description="How often a minute, or `max` in `per` seconds."),
    ] = None
    valid_until: Annotated[
        Text | None, Field(description="When the permission ends, as 2026-12-31T00:00:00Z; the zone is needed.")
    ] = None


def manifest_scope(kind: Kind, text: str) -> str:
    """Give a rule's scope for what a manifest names: `x` stands for all below it where there is a below.

    Raises:
        MalformedError: it is no scope of that kind.
    """
    if kind in _SUBTREE_KINDS and "*" not in text:
        text = text.rstrip("/") + "/*" if text != "/" else "/*"
    return canonical_pattern(kind, text)


def condition_text(conditions: Conditions) -> str:
    """Spell a manifest's conditions as the condition of a rule.

    Raises:
        MalformedError: a time cannot be read.
    """
    terms: list[str] = []
    match conditions.time_restriction:
        case str(name):
            terms.append(name)
        case TimeRestriction() as window:
            terms.append(_hours(window))
        case None:
            pass
    if conditions.user_consent:
        terms.append("consent")
    match conditions.rate_limit:
        case int(count):
            terms.append(f"rate({count}/60s)")
        case RateLimit(max=count, per=per_s):
            terms.append(f"rate({count}/{per_s}s)")
        case None:
            pass
    if conditions.valid_until is not None:
        terms.append(f"until({_moment(conditions.valid_until)})")
    return "; ".join(terms) or "-"


def _hours(window: TimeRestriction) -> str:
    days = "+".join(day for day in _DAY_NAMES if day in window.days)
    if not days:
        raise MalformedError("conditions.time_restriction.days: name at least one day")
    try:
        ZoneInfo(window.tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # SECURITY: nothing but a zone's name may become part of a rule's line.
        raise MalformedError(f"conditions.time_restriction.tz: `{window.tz[:80]}` is not a time zone") from None
    return f"hours({window.from_}-{window.to} {days} {window.tz})"


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
        spelt = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        at = None
    # SECURITY: a time that cannot be read must never mean "for ever".
    if at is None or at.tzinfo is None:
        raise MalformedError(f"conditions.valid_until: `{text[:80]}` is not a time like 2026-12-31T00:00:00Z")
    return spelt
