"""tests/*.toml: the questions a policy is judged by before it takes effect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.domain.decision import Effect, Reason
from gateway.domain.names import Subject, UserId, parse_user_id
from gateway.domain.permission import KNOWN_KINDS, LEVELS, PERMISSIONS
from gateway.domain.request import AccessRequest, Json
from gateway.domain.risk import MAX_SCORE
from gateway.domain.scope import canonical_pattern, canonical_scope
from gateway.errors import MalformedError
from gateway.policy.encode import encode_field
from gateway.policy.problems import Problems
from gateway.policy.spelling import did_you_mean
from gateway.policy.subjects import check_subject
from gateway.policy.terms import parse_moment
from gateway.policy.toml_file import TomlFile, parse_toml

# WHY: a case that names no moment must not pass by day and fail by night. It is a Wednesday.
STOPPED_CLOCK = datetime(2026, 1, 7, 12, tzinfo=UTC)
_ATTRIBUTES = ("context", "resource", "args")
_GIVEN = ("at", "user", "roles", "consents", "approved", "risk", "used", *_ATTRIBUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a case takes as known."""

    at: datetime = STOPPED_CLOCK
    user: UserId | None = None
    roles: tuple[str, ...] = ()
    consents: tuple[tuple[str, str], ...] = ()  # permission, scope
    approved: bool = False
    risk: int | None = None  # None: as risk.toml scores it
    used: Mapping[str, int] = field(default_factory=dict)  # rule id -> how much of its rate is used
    attributes: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question, what is given, and the answer that is wanted."""

    name: str
    file: str
    line: int
    ask: AccessRequest
    given: Given
    want: Effect
    rule: str | None = None
    near_miss: str | None = None
    reason: Reason | None = None
    with_grants: bool = False


def parse_cases(files: Mapping[str, bytes], problems: Problems) -> tuple[Case, ...]:
    """Give the cases of all files; one with a problem is noted and left out."""
    found = []
    for file, data in files.items():
        toml = parse_toml(file, data, problems)
        if toml is None:
            continue
        toml.only(toml.content, ["case"])
        cases = [_case(toml, number, table) for number, table in toml.tables("case")]
        found += [case for case in cases if case is not None]
    return tuple(found)


def _case(toml: TomlFile, number: int, table: Mapping[str, object]) -> Case | None:
    path = ("case", number)
    toml.only(table, ["name", "ask", "given", "want", "rule", "near_miss", "reason", "with_grants"], *path)
    given = _given(toml, toml.table(table.get("given", {}), *path, "given"), *path, "given")
    user = given.user if given is not None else None
    ask = _ask(toml, toml.table(table.get("ask"), *path, "ask"), user, *path, "ask")
    name = toml.text(table, "name", *path)
    want = _word(toml, table, "want", Effect, *path)
    reason = _word(toml, table, "reason", Reason, *path) if "reason" in table else None
    rule, near_miss = (toml.text(table, key, *path) if key in table else None for key in ("rule", "near_miss"))
    with_grants = _flag(toml, table, "with_grants", *path)
    if name is None or given is None or ask is None or want is None:
        return None
    return Case(
        name=name, file=toml.file, line=toml.line(*path) or 1, ask=ask, given=given, want=Effect(want), rule=rule,
        near_miss=near_miss, reason=None if reason is None else Reason(reason), with_grants=with_grants,
    )  # fmt: skip


def _ask(toml: TomlFile, table: Mapping[str, object], user: UserId | None, *path: str | int) -> AccessRequest | None:
    toml.only(table, ["subject", "kind", "level", "scope"], *path)
    subject, kind, level, scope = (toml.text(table, key, *path) for key in ("subject", "kind", "level", "scope"))
    if subject is None or kind is None or level is None or scope is None:
        return None
    if kind in KNOWN_KINDS and level not in LEVELS:
        toml.error(f"level '{level[:80]}'{did_you_mean(level, LEVELS)}", *path, "level")
        return None
    if not check_subject(encode_field(subject), lambda message: toml.error(message, *path, "subject")):
        return None
    try:
        canonical = canonical_scope(kind, scope)
    except MalformedError as error:
        toml.error(str(error), *path, "scope")
        return None
    return AccessRequest(subject=Subject(subject), user=user, kind=kind, level=level, scope=canonical)


def _given(toml: TomlFile, table: Mapping[str, object], *path: str | int) -> Given | None:
    toml.only(table, _GIVEN, *path)
    risk = toml.number(table, "risk", MAX_SCORE, *path) if "risk" in table else None
    used = toml.table(table.get("used", {}), *path, "used")
    counts = {rule: toml.number(used, rule, 10**9, *path, "used") for rule in used}
    try:
        return Given(
            at=_moment(table.get("at", STOPPED_CLOCK)),
            user=parse_user_id(toml.text(table, "user", *path) or "") if "user" in table else None,
            roles=_roles(toml, table, *path),
            consents=tuple(_consent(text) for text in toml.texts(table, "consents", *path)),
            approved=_flag(toml, table, "approved", *path),
            risk=risk,
            used={rule: count for rule, count in counts.items() if count is not None},
            attributes={root: _json(toml, table, root, *path) for root in _ATTRIBUTES},
        )
    except MalformedError as error:
        toml.error(str(error), *path)
        return None


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        return parse_moment(str(value))
    if value.tzinfo is None:
        raise MalformedError(f"`at` {value}: name the zone, as `2026-11-23T09:30:00Z`")
    return value


def _roles(toml: TomlFile, table: Mapping[str, object], *path: str | int) -> tuple[str, ...]:
    roles = toml.texts(table, "roles", *path)
    for role in roles:
        check_subject(role, lambda message: toml.error(message, *path, "roles"))
    return roles


def _consent(text: str) -> tuple[str, str]:
    permission, _, scope = text.partition(" ")
    if permission not in PERMISSIONS or not scope:
        raise MalformedError(f"consent '{text[:80]}': write it as `vault_read user_data/diary`")
    return permission, canonical_pattern(PERMISSIONS[permission].kind, scope)


def _json(toml: TomlFile, table: Mapping[str, object], name: str, *path: str | int) -> Mapping[str, Json]:
    return toml.table(table.get(name, {}), *path, name)  # type: ignore[return-value] # what TOML holds is JSON or refused as unknown by conditions


def _flag(toml: TomlFile, table: Mapping[str, object], name: str, *path: str | int) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        toml.error(f"`{name}` must be true or false", *path, name)
    return value is True


def _word(
    toml: TomlFile, table: Mapping[str, object], name: str, words: type[Effect | Reason], *path: str | int
) -> str | None:
    value = toml.text(table, name, *path)
    known = [word.value for word in words]
    if value is None or value in known:
        return value
    toml.error(f"{name} '{value[:80]}': one of {', '.join(known)}", *path, name)
    return None
