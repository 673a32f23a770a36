"""The smallest change that would allow a call: thought up here, proven by whoever applies it aside."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from gateway.domain.condition import Approval, Consent, From, Hours, Rate
from gateway.domain.decision import Effect, NearMiss
from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, split_subject
from gateway.domain.request import AccessRequest, Json
from gateway.domain.scope import covers
from gateway.policy.encode import add_lines, encode_field, rule_line
from gateway.policy.engine import PolicySet
from gateway.policy.hours import within
from gateway.policy.replay import Recorded
from gateway.policy.rule import Rule, kind_matches, level_matches
from gateway.policy.text import ROLES, PolicyText

ADDED = "rules/90-added.csv"
_STEP = timedelta(minutes=15)
_STEPS = 14 * 24 * 4
_MOST_ROLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A line to add to a file."""

    type: str  # `role` or `rule`
    file: str
    line: str

    def applied(self, text: PolicyText) -> PolicyText:
        """Give the text with the line in it."""
        return text.with_file(self.file, add_lines(text.files.get(self.file, b""), [self.line]))

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"type": self.type, "file": self.file, "line": self.line}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfilment:
    """What must come true for a rule that is there; `recorded` is the call as if it had."""

    miss: NearMiss
    sentence: str
    recorded: Recorded

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "type": "condition",
            "rule": self.miss.rule.as_json(),
            "terms": [*self.miss.unmet],
            "sentence": self.sentence,
        }


def edits(policy: PolicySet, request: AccessRequest, decision_id: str) -> Iterator[Edit]:
    """Give the edits that may allow a request: a role or group that has the right, then a rule of its own."""
    member = encode_field(request.subject)
    for whole in _wholes(policy, request):
        yield Edit(type="role", file=ROLES, line=f"g, {member}, {whole}")
    fields = (_free_id(policy, request), member, request.kind, request.level, encode_field(request.scope), "-", "allow")
    yield Edit(type="rule", file=ADDED, line=rule_line(fields, why=f"asked for by decision {decision_id}"))


def _wholes(policy: PolicySet, request: AccessRequest) -> list[str]:
    prefix, _ = split_subject(request.subject)
    wanted = {"user": ("role", "group"), "key": ("role", "group"), "plugin": ("group",)}.get(prefix, ())
    able = {rule.subject for rule in policy.rules if rule.effect is Effect.ALLOW and _speaks_of(rule, request)}
    named = {rule.subject for rule in policy.rules} | {line.whole for line in policy.parsed.memberships}
    has = policy.roles.closure(encode_field(request.subject))
    found = [
        whole
        for whole in sorted(named - has - {PLUGINS_GROUP, USERS_GROUP})
        if split_subject(whole)[0] in wanted and able & policy.roles.closure(whole)
    ]
    return found[:_MOST_ROLES]


def _speaks_of(rule: Rule, request: AccessRequest) -> bool:
    return (
        kind_matches(request.kind, rule.kind)
        and level_matches(request.kind, request.level, rule.level, rule.effect)
        and covers(rule.scope, request.scope)
    )


def _free_id(policy: PolicySet, request: AccessRequest) -> str:
    name = "".join(char if char.isascii() and char.isalnum() else "-" for char in split_subject(request.subject)[1])
    stem = f"{name.strip('-') or 'added'}-{request.kind}-{request.level}"[:100]
    taken = {rule.id for rule in policy.rules}
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def fulfilments(policy: PolicySet, recorded: Recorded, misses: tuple[NearMiss, ...]) -> Iterator[Fulfilment]:
    """Give what would let rules speak that nearly did: a consent, an approval, or time."""
    rules = {rule.id: rule for rule in policy.candidates(recorded.request)}
    for miss in misses:
        rule = rules.get(miss.rule.id)
        found = None if rule is None else _fulfilled(rule, miss, recorded)
        if found is not None:
            yield found


def _fulfilled(rule: Rule, miss: NearMiss, recorded: Recorded) -> Fulfilment | None:
    said = []
    facts = recorded.facts
    for text, term in rule.condition.terms:
        if text not in miss.unmet:
            continue
        match term:
            case Consent() if recorded.user is not None:
                facts = replace(facts, consent_id="suggested")
                said.append(f"`{recorded.user}` consents")
            case Approval():
                facts = replace(facts, approval_id="suggested")
                said.append("a person approves this call")
            case Rate(count=count, per_s=per_s):
                counters = {**facts.counters, rule.id: 0}
                facts = replace(facts, counters=counters, rates={**facts.rates, rule.id: per_s})
                said.append(f"fewer than {count} calls are used in {per_s} s")
            case Hours() | From():
                at = _opens(rule, facts.at)
                if at is None:
                    return None
                facts = replace(facts, at=at)
                said.append(f"it is asked at {at.isoformat()}")
            case _:
                return None
    words = ", and ".join(dict.fromkeys(said))
    sentence = f"Rule `{rule.id}` allows it once {words}."
    return Fulfilment(miss=miss, sentence=sentence, recorded=replace(recorded, facts=facts))


def _opens(rule: Rule, after: datetime) -> datetime | None:
    """Give a moment at which the rule's hours are open, soon after another."""
    begins = [term.at for _, term in rule.condition.terms if isinstance(term, From)]
    hours = [term for _, term in rule.condition.terms if isinstance(term, Hours)]
    first = max([after, *begins])
    quarter = first.replace(minute=first.minute // 15 * 15, second=0, microsecond=0)
    moments = (first, *(quarter + n * _STEP for n in range(1, _STEPS)))
    return next((at for at in moments if all(within(each, at) for each in hours)), None)
