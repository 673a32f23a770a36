"""One workload for every engine: subjects in three hops of groups, eight kinds, four levels, paths and hosts."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.domain.names import Subject
from gateway.domain.permission import LEVELS
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.model import SHIPPED
from gateway.policy.text import PolicyText

KINDS = ("vault", "core", "network", "file", "system", "api", "plugin", "user")
CONDITIONS = ("consent", "risk<=40", "hours(08:00-18:00 Mon-Fri Europe/Berlin)", "rate(100/60s)", "consent; risk<=60")
DENY_CONDITIONS = ("hours(08:00-18:00 Mon-Fri Europe/Berlin)", "context.safe != true")
DENIES, CONDITIONAL, DERIVED = 0.1, 0.3, 0.6  # shares of the rules, the rules, and the requests
FACTS = Facts(at=datetime(2026, 11, 23, 11, tzinfo=UTC), risk=30, consent_id="consent-1")
RISK = "".join(
    f"[base.{kind}]\n{words}\n"
    for kind in (*KINDS, "gateway", "other")
    for words in ["\n".join(f"{level} = {10 * rank}" for level, rank in LEVELS.items())]
) + "[tiers]\nmoderate = 25\nhigh = 50\ncritical = 75\n"  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRule:
    """A rule before any engine has spelt it."""

    id: str
    subject: str
    kind: str
    level: str
    scope: str
    condition: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Rules, who belongs to what, and what is asked."""

    rules: tuple[BenchRule, ...]
    links: tuple[tuple[str, str], ...]
    asked: tuple[AccessRequest, ...]

    @property
    def text(self) -> PolicyText:
        """The same as a policy folder."""
        lines = (
            f"p, {r.id}, {r.subject}, {r.kind}, {r.level}, {r.scope}, {r.condition}, {r.effect}, because of {r.id}"
            for r in self.rules
        )
        return PolicyText(
            {
                "model.conf": SHIPPED.encode(),
                "risk.toml": RISK.encode(),
                "roles.csv": "".join(f"g, {member}, {whole}\n" for member, whole in self.links).encode(),
                "rules/50-bench.csv": "\n".join(lines).encode() + b"\n",
            }
        )


def make_workload(rules: int, *, asked: int, seed: int = 7) -> Workload:
    """Make the workload of so many rules; the same numbers make the same workload."""
    rng = random.Random(seed)
    plugins = max(10, rules // 10)
    groups, teams = max(4, plugins // 10), 8
    links = list(_links(rng, plugins, groups, teams))
    made = _distinct(rng, rules, plugins, groups, teams)
    return Workload(rules=tuple(made), links=tuple(links), asked=tuple(_asked(rng, made, asked, plugins)))


def _links(rng: random.Random, plugins: int, groups: int, teams: int) -> Iterator[tuple[str, str]]:
    for number in range(plugins):
        for group in rng.sample(range(groups), 2):
            yield f"plugin:p{number}", f"group:g{group}"
    for number in range(groups):
        yield f"group:g{number}", f"group:team-{number % teams}"


def _distinct(rng: random.Random, rules: int, plugins: int, groups: int, teams: int) -> list[BenchRule]:
    made: list[BenchRule] = []
    seen: set[tuple[str, ...]] = set()
    while len(made) < rules:
        rule = _rule(rng, len(made), plugins, groups, teams)
        said = (rule.subject, rule.kind, rule.level, rule.scope, rule.condition, rule.effect)
        if said not in seen:
            seen.add(said)
            made.append(rule)
    return made


def _rule(rng: random.Random, number: int, plugins: int, groups: int, teams: int) -> BenchRule:
    draw = rng.random()
    if draw < 0.6:
        subject = f"plugin:p{rng.randrange(plugins)}"
    else:
        subject = f"group:g{rng.randrange(groups)}" if draw < 0.9 else f"group:team-{rng.randrange(teams)}"
    kind = rng.choice(KINDS)
    effect = "deny" if rng.random() < DENIES else "allow"
    conditions = DENY_CONDITIONS if effect == "deny" else CONDITIONS
    condition = rng.choice(conditions) if rng.random() < CONDITIONAL else "-"
    level = rng.choice(list(LEVELS)[:2] if effect == "allow" else list(LEVELS)[1:])
    return BenchRule(
        id=f"r{number}", subject=subject, kind=kind, level=level, scope=_pattern(rng, kind, _apps(plugins)),
        condition=condition, effect=effect,
    )  # fmt: skip


def _apps(plugins: int) -> int:
    return max(50, plugins // 4)  # more plugins, more that they ask for


def _pattern(rng: random.Random, kind: str, apps: int) -> str:
    if kind == "network":
        host = f"svc{rng.randrange(4 * apps)}.example.com"
        return rng.choice([f"*.{host}", host, f"api.{host}"])
    root = "/" if kind in {"file", "system"} else ""
    path = f"{root}app{rng.randrange(apps)}"
    return rng.choice([f"{path}/*", f"{path}/data{rng.randrange(20)}/*", f"{path}/data{rng.randrange(20)}/item"])


def _asked(rng: random.Random, rules: list[BenchRule], count: int, plugins: int) -> Iterator[AccessRequest]:
    levels = list(LEVELS)
    for number in range(count):
        subject = f"plugin:p{rng.randrange(plugins)}"
        if rng.random() < DERIVED:
            rule = rng.choice(rules)
            kind, level, scope = rule.kind, rule.level, _below(rule.scope, number)
            subject = rule.subject if rule.subject.startswith("plugin:") else subject
        else:
            kind, level = rng.choice(KINDS), rng.choice(levels)
            scope = _below(_pattern(rng, kind, _apps(plugins)), number)
        yield AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)


def _below(pattern: str, number: int) -> str:
    """Give a scope that `pattern` covers, another one for each number where it covers more than one."""
    if pattern.startswith("*."):
        return f"h{number}{pattern[1:]}"
    return pattern.removesuffix("*") + f"x{number}" if pattern.endswith("/*") else pattern
