"""The lines of rules/*.csv and grants.csv, each field checked, become rules."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.condition import Condition, Hours
from gateway.domain.decision import Effect
from gateway.domain.permission import FAMILIES, KNOWN_KINDS, LEVELS, Kind
from gateway.domain.scope import canonical_pattern, canonical_scope, is_plain_pattern
from gateway.errors import HearthgateError, MalformedError
from gateway.policy.conditions_check import check_condition
from gateway.policy.encode import decode_field
from gateway.policy.lines import Line, split_lines
from gateway.policy.pauses import Pause, never
from gateway.policy.problems import Problems
from gateway.policy.rule import EVERY, Rule
from gateway.policy.spelling import did_you_mean, nearest
from gateway.policy.subjects import check_subject
from gateway.policy.terms import parse_condition

FIELDS = ("id", "subject", "kind", "level", "scope", "condition", "effect", "why")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,127}\Z")
_EXECUTABLE = (Kind.FILE, Kind.SYSTEM, Kind.PLUGIN, Kind.GATEWAY)


Said = tuple[str, str, str, str]  # kind, level, condition, effect: as written


class Lexicon:
    """What was read before and is sound: rules repeat their words, so each is checked and kept once."""

    def __init__(self, calendars: Mapping[str, Hours], subjects: dict[str, str]) -> None:
        self.calendars = calendars
        self.subjects = subjects
        self.terms: dict[str, tuple[Condition, tuple[str, ...]]] = {}
        self.said: dict[Said, tuple[Said, Effect, Condition]] = {}

    def condition(self, text: str) -> tuple[Condition, tuple[str, ...]]:
        """Give the condition written as `text` with what is wrong with it, read once."""
        found = self.terms.get(text)
        if found is None:
            found = self.terms[text] = parse_condition(text, self.calendars)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One line being read."""

    line: Line
    problems: Problems

    def error(self, message: str) -> None:
        self.problems.error(self.line.file, message, self.line.number)

    def warning(self, message: str) -> None:
        self.problems.warning(self.line.file, message, self.line.number)


def parse_rules(
    file: str, data: bytes, lexicon: Lexicon, problems: Problems, pause: Pause = never, *, first: int = 1
) -> tuple[Rule, ...]:
    """Give the rules of one file, or of its end from line `first`; a line with a problem gives none."""
    rules = []
    for line in split_lines(file, data, problems, pause, first=first):
        rule = _sound_rule(line, lexicon)
        if rule is None:
            reading = _Reading(line=line, problems=problems)
            rule = _rule(reading, lexicon) if _is_p_line(reading) else None
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def _sound_rule(line: Line, lexicon: Lexicon) -> Rule | None:
    """Give the rule of a line whose words were all found sound before, None if they were not."""
    if len(line.fields) != len(FIELDS) + 1 or line.fields[0] != "p":
        return None
    _, id_, subject, kind, level, scope, condition, effect, why = line.fields
    said = lexicon.said.get((kind, level, condition, effect))
    known = lexicon.subjects.get(subject)
    if said is None or known is None or "%" in scope or "%" in why or not _ID.match(id_):
        return None
    if not is_plain_pattern(kind, scope):
        return None
    (kind, level, condition, effect), found, terms = said
    return Rule(
        id=id_, subject=known, kind=kind, level=level, scope=scope, condition=terms, effect=found, why=why,
        file=line.file, line=line.number, fields=(id_, known, kind, level, scope, condition, effect, why),
    )  # fmt: skip


def _is_p_line(reading: _Reading) -> bool:
    kind, *fields = reading.line.fields
    if kind == "g":
        reading.error("`g` lines belong in roles.csv")
    elif kind != "p":
        reading.error(f"unknown record type '{kind[:80]}': a rule's line begins with `p`")
    elif len(fields) > len(FIELDS):
        reading.error(f"{len(fields) + 1} fields, {len(FIELDS) + 1} expected: write a comma as %2C")
    elif len(fields) < len(FIELDS):
        reading.error(f"{len(fields) + 1} fields, {len(FIELDS) + 1} expected: p, {', '.join(FIELDS)}")
    else:
        return True
    return False


def _rule(reading: _Reading, lexicon: Lexicon) -> Rule | None:
    id_, subject, kind, level, scope, condition, effect, why = fields = reading.line.fields[1:]
    found = _effect(effect, reading)
    checks = [
        _check_id(id_, reading),
        check_subject(subject, reading.error),
        _check_kind(kind, reading),
        found is not None,
    ]
    checks.append(checks[2] and _check_level(kind, level, found, reading))
    pattern = _scope(kind, scope, reading)
    terms = _condition(condition, found, lexicon, reading)
    reason = _decoded(why, "why", reading)
    if found is None or pattern is None or terms is None or reason is None or not all(checks):
        return None
    if not _tells_of_level(kind, level, found):
        said = (kind, level, condition, effect)
        lexicon.said[said] = said, found, terms
    lexicon.subjects[subject] = subject
    return Rule(
        id=id_, subject=subject, kind=kind, level=level, scope=pattern, condition=terms, effect=found, why=reason,
        file=reading.line.file, line=reading.line.number, fields=fields,
    )  # fmt: skip


def _check_id(text: str, reading: _Reading) -> bool:
    if not _ID.match(text):
        reading.error(f"id '{text[:80]}': 1 to 128 of letters, digits and . _ -")
        return False
    return True


def _check_kind(text: str, reading: _Reading) -> bool:
    if text in KNOWN_KINDS or text == EVERY:
        return True
    near = nearest(text, KNOWN_KINDS)
    if near is not None:
        reading.error(f"kind '{text}': did you mean `{near}`?")
    elif not _KIND.match(text):
        reading.error(f"kind '{text[:80]}': a letter, then letters, digits and . _ -")
    else:
        return True
    return False


def _check_level(kind: str, text: str, effect: Effect | None, reading: _Reading) -> bool:
    if kind not in KNOWN_KINDS and kind != EVERY:
        if not text:
            reading.error("level '': an action name or `*`")
        return bool(text)
    if text not in LEVELS and not (kind == EVERY and text == EVERY):
        hint = did_you_mean(text, LEVELS)
        if _may_be_an_action(kind, text, effect) and not hint:
            reading.warning(f"'{text}' is no level of {_of(kind)}: only a question in a client's own words asks for it")
            return True
        tail = "? the levels are" if hint else ": the levels are"
        reading.error(f"level '{text[:80]}'{hint.removesuffix('?')}{tail} {', '.join(LEVELS)}")
        return False
    if _tells_of_level(kind, text, effect):
        reading.warning(f"nothing of kind `{kind}` is executed: this allows reading and writing")
    return True


def _may_be_an_action(kind: str, text: str, effect: Effect | None) -> bool:
    # SECURITY: a deny whose level is mistyped would deny nothing, so denies of the families take levels alone.
    return _ACTION.match(text) is not None and (kind == EVERY or (kind in FAMILIES and effect is Effect.ALLOW))


def _of(kind: str) -> str:
    return "the families" if kind == EVERY else f"`{kind}`"


def _tells_of_level(kind: str, level: str, effect: Effect | None) -> bool:
    """Tell whether each rule that says so is warned of."""
    if level not in LEVELS and level != EVERY and (kind in FAMILIES or kind == EVERY):
        return True
    return level == "execute" and kind in FAMILIES and kind not in _EXECUTABLE and effect is Effect.ALLOW


def _scope(kind: str, text: str, reading: _Reading) -> str | None:
    pattern = _decoded(text, "scope", reading)
    if pattern is None:
        return None
    if pattern.count("*") != text.count("*"):
        reading.error(f"scope '{text[:80]}': write `*` bare; no request holds a literal one")
        return None
    if kind == EVERY:
        return _for_every_kind(pattern, reading)
    return _canonical(kind, pattern, reading) if kind in KNOWN_KINDS else _opaque(kind, pattern, reading)


def _canonical(kind: str, pattern: str, reading: _Reading) -> str | None:
    try:
        canonical = canonical_pattern(kind, pattern)
    except HearthgateError as error:
        reading.error(str(error))
        return None
    if canonical != pattern:
        reading.error(f"scope '{pattern}': requests are spelt `{canonical}`: write it like that")
        return None
    return pattern


def _opaque(kind: str, pattern: str, reading: _Reading) -> str | None:
    if pattern == EVERY:
        return pattern
    if pattern.startswith("*.") and pattern.endswith("/*"):
        # SECURITY: one of the two stars would be taken literally, and a deny like this would deny nothing.
        reading.error(f"scope '{pattern[:80]}': one `*` a scope: it is exact, `a/*`, `*.b` or `*`")
        return None
    try:
        canonical_scope(kind, pattern.removesuffix("/*").removeprefix("*."))
    except HearthgateError as error:
        reading.error(f"{error}: a scope is exact, `a/*`, `*.b` or `*`")
        return None
    return pattern


def _for_every_kind(pattern: str, reading: _Reading) -> str | None:
    if any(_is_canonical(kind, pattern) for kind in FAMILIES):
        return pattern
    reading.error(f"scope '{pattern[:80]}': no request of any kind is spelt like this")
    return None


def _is_canonical(kind: str, pattern: str) -> bool:
    try:
        return canonical_pattern(kind, pattern) == pattern
    except HearthgateError:
        return False


def _decoded(text: str, name: str, reading: _Reading) -> str | None:
    try:
        return decode_field(text)
    except MalformedError as error:
        reading.error(f"{name} {error}")
        return None


def _effect(text: str, reading: _Reading) -> Effect | None:
    if text in {Effect.ALLOW.value, Effect.DENY.value}:
        return Effect(text)
    reading.error(f"effect '{text[:80]}': allow or deny")
    return None


def _condition(text: str, effect: Effect | None, lexicon: Lexicon, reading: _Reading) -> Condition | None:
    condition, wrong = lexicon.condition(text)
    wrong = (*wrong, *check_condition(condition, effect))
    for message in wrong:
        reading.error(message)
    return None if wrong else condition
