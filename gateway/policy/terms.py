"""The vocabulary of conditions: the text of a rule's condition becomes terms."""

import re
from collections.abc import Mapping
from datetime import datetime

from gateway.domain.condition import Approval, Condition, Consent, From, Hours, Rate, RiskAtMost, Term, Until
from gateway.domain.risk import MAX_SCORE
from gateway.errors import MalformedError
from gateway.policy.comparisons import parse_comparison
from gateway.policy.hours import parse_hours
from gateway.policy.spelling import did_you_mean

WORDS = ("consent", "approval", "hours", "rate", "risk", "from", "until", "in", "startswith", "true", "false")
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_CALL = re.compile(r"([a-z]+)\s*\((.*)\)\Z")
_RISK = re.compile(r"risk\s*<=\s*(\d{1,3})\Z", re.ASCII)
_RATE = re.compile(r"(\d{1,9})\s*/\s*(\d{1,6})([smhd])\Z", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_RATE_S = 31 * 86400


def parse_condition(text: str, calendars: Mapping[str, Hours]) -> tuple[Condition, tuple[str, ...]]:
    """Give the condition written as `text`, and a sentence for everything that is wrong with it."""
    if text == "-":
        return Condition(), ()
    terms: list[tuple[str, Term]] = []
    wrong: list[str] = []
    for part in text.split(";"):
        word = part.strip()
        try:
            terms.append((word, parse_term(word, calendars)))
        except MalformedError as error:
            wrong.append(str(error))
    return Condition(terms=tuple(terms)), (*wrong, *_wrong_together([term for _, term in terms]))


def _wrong_together(terms: list[Term]) -> list[str]:
    wrong = []
    if sum(isinstance(term, Rate) for term in terms) > 1:
        wrong.append("condition: one `rate(...)` a rule")
    start = [term.at for term in terms if isinstance(term, From)]
    end = [term.at for term in terms if isinstance(term, Until)]
    if start and end and max(start) >= min(end):
        wrong.append("condition: `from(...)` is not before `until(...)`, so it never holds")
    return wrong


def parse_term(text: str, calendars: Mapping[str, Hours]) -> Term:
    """Give the term written as `text`.

    Raises:
        MalformedError: it is none.

    """
    if not text:
        raise MalformedError("condition: an empty term: terms are joined by `;`, no condition is `-`")
    if text == "consent":
        return Consent()
    if text == "approval":
        return Approval()
    if text in calendars:
        return calendars[text]
    comparison = parse_comparison(text)
    if comparison is not None:
        return comparison
    if found := _RISK.match(text):
        return _risk(int(found[1]))
    if found := _CALL.match(text):
        return _call(found[1], found[2].strip(), text)
    raise _unknown(text, calendars)


def _call(name: str, inside: str, text: str) -> Term:
    if name == "hours":
        return parse_hours(inside)
    if name == "rate":
        return _rate(inside, text)
    if name == "from":
        return From(at=parse_moment(inside))
    if name == "until":
        return Until(at=parse_moment(inside))
    hint = did_you_mean(name, ("hours", "rate", "from", "until"))
    raise MalformedError(f"unknown condition '{text[:80]}'{hint}")


def _unknown(text: str, calendars: Mapping[str, Hours]) -> MalformedError:
    hint = did_you_mean(text, (*calendars, "consent", "approval"))
    if not hint and NAME.match(text):
        hint = ": no term and no name of conditions.toml"
    elif not hint:
        hint = ": a comparison is `context.name == value`, with blanks around `==`"
    return MalformedError(f"unknown condition '{text[:80]}'{hint}")


def _risk(score: int) -> RiskAtMost:
    if score > MAX_SCORE:
        raise MalformedError(f"condition 'risk<={score}': a score is 0 to {MAX_SCORE}")
    return RiskAtMost(score=score)


def _rate(inside: str, text: str) -> Rate:
    found = _RATE.match(inside)
    if found is None:
        raise MalformedError(f"condition '{text[:80]}': write it as `rate(100/60s)`")
    count, per_s = int(found[1]), int(found[2]) * _SECONDS[found[3]]
    if count < 1 or not 1 <= per_s <= LONGEST_RATE_S:
        raise MalformedError(f"condition '{text[:80]}': at least 1 in 1s to 31d")
    return Rate(count=count, per_s=per_s)


def parse_moment(text: str) -> datetime:
    """Give the moment written as RFC 3339 with a zone.

    Raises:
        MalformedError: it is none, or leaves the zone open.

    """
    try:
        if _MOMENT.match(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise MalformedError(f"'{text[:80]}' is no moment: write it as `2026-12-31T17:00:00Z`")
