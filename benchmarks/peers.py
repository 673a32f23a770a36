"""The same rules and questions in the terms of other engines; each gives its answer as a truth value."""

import json
from collections.abc import Callable, Iterable, Mapping

import cedarpy
import regopy

from benchmarks.workload import FACTS, BenchRule, Workload
from gateway.domain.permission import LEVELS
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.encode import encode_field
from gateway.policy.engine import PolicySet
from gateway.policy.stock import QuietFacts, build_stock

Ask = Callable[[AccessRequest], bool]
# What the conditions of the workload ask of FACTS, worked out beforehand, in favour of the others.
_KNOWN = {"consent": True, "risk": FACTS.risk, "open": True, "used": 0, "safe": False}
_CEDAR_TERMS = {
    "consent": "context.consent",
    "risk<=40": "context.risk <= 40",
    "risk<=60": "context.risk <= 60",
    "hours(08:00-18:00 Mon-Fri Europe/Berlin)": "context.open",
    "rate(100/60s)": "context.used < 100",
    "context.safe != true": "!context.safe",
}
_REGO = """\
package gate
import rego.v1

default allow := false

allow if {
    hit("allow")
    not hit("deny")
}

hit(effect) if {
    some s in data.closure[input.sub]
    some r in data.rules[s][input.kind]
    r.effect == effect
    level_ok(r)
    scope_ok(r)
    not unmet(r)
}

level_ok(r) if { r.effect == "allow"; r.level >= input.level }
level_ok(r) if { r.effect == "deny"; r.level <= input.level }
scope_ok(r) if { r.scope == input.scope }
scope_ok(r) if { r.below; startswith(input.scope, r.below) }
scope_ok(r) if { r.host; endswith(input.scope, r.host) }
unmet(r) if { r.consent; not input.consent }
unmet(r) if { r.risk; input.risk > r.risk }
unmet(r) if { r.open; not input.open }
unmet(r) if { r.used; input.used >= r.used }
unmet(r) if { r.unsafe; input.safe }
"""
_REGO_TERMS: Mapping[str, dict[str, object]] = {
    "consent": {"consent": True},
    "risk<=40": {"risk": 40},
    "risk<=60": {"risk": 60},
    "hours(08:00-18:00 Mon-Fri Europe/Berlin)": {"open": True},
    "rate(100/60s)": {"used": 100},
    "context.safe != true": {"unsafe": True},
}


def stock_casbin(policy: PolicySet) -> Ask:
    """Give stock `casbin.Enforcer` over the rules of a set."""
    enforcer = build_stock(policy.rules, policy.roles, policy.calendars)
    quiet: Facts = QuietFacts(at=FACTS.at, risk=FACTS.risk, consent_id=FACTS.consent_id)

    def ask(request: AccessRequest) -> bool:
        subject = encode_field(request.subject)
        return enforcer.enforce(subject, request.kind, request.level, request.scope, quiet) is True

    return ask


def cedar(workload: Workload) -> Ask:
    """Give cedarpy with its policies and entities parsed once."""
    policies = cedarpy.PolicySet.from_str("\n".join(_cedar_rule(rule) for rule in workload.rules))
    parents: dict[str, list[str]] = {}
    for member, whole in workload.links:
        parents.setdefault(member, []).append(whole)
        parents.setdefault(whole, [])
    entities = cedarpy.Entities.from_json_str(
        json.dumps(
            [
                {"uid": _entity(name), "attrs": {}, "parents": [_entity(whole) for whole in wholes]}
                for name, wholes in parents.items()
            ]
        )
    )

    def ask(request: AccessRequest) -> bool:
        asked = {
            "principal": {"type": "Subject", "id": str(request.subject)},
            "action": {"type": "Action", "id": "use"},
            "resource": {"type": "Thing", "id": "any"},
            "context": {**_KNOWN, "kind": request.kind, "level": int(LEVELS[request.level]), "scope": request.scope},
        }
        return bool(cedarpy.is_authorized(asked, policies, entities).allowed)

    return ask


def _entity(name: str) -> dict[str, str]:
    return {"type": "Subject", "id": name}


def _cedar_rule(rule: BenchRule) -> str:
    word, compare = ("permit", "<=") if rule.effect == "allow" else ("forbid", ">=")
    tests = [f'context.kind == "{rule.kind}"', f"context.level {compare} {int(LEVELS[rule.level])}"]
    if rule.scope.endswith("/*"):
        tests.append(f'(context.scope == "{rule.scope[:-2]}" || context.scope like "{rule.scope}")')
    else:
        operator = "like" if "*" in rule.scope else "=="
        tests.append(f'context.scope {operator} "{rule.scope}"')
    tests += [_CEDAR_TERMS[term] for term in _terms(rule)]
    return f'{word}(principal in Subject::"{rule.subject}", action, resource) when {{ {" && ".join(tests)} }};'


def _terms(rule: BenchRule) -> Iterable[str]:
    return () if rule.condition == "-" else rule.condition.split("; ")


def rego(workload: Workload, policy: PolicySet) -> Ask:
    """Give rego-cpp over data that is indexed by subject and kind, with the groups of each subject worked out."""
    rules: dict[str, dict[str, list[dict[str, object]]]] = {}
    for rule in workload.rules:
        rules.setdefault(rule.subject, {}).setdefault(rule.kind, []).append(_rego_rule(rule))
    subjects = {member for member, _ in workload.links} | {str(each.subject) for each in workload.asked}
    interpreter = regopy.Interpreter()
    interpreter.add_data({"rules": rules, "closure": {name: sorted(policy.roles.closure(name)) for name in subjects}})
    interpreter.add_module("gate", _REGO)
    bundle = interpreter.build("data.gate.allow")

    def ask(request: AccessRequest) -> bool:
        level = int(LEVELS[request.level])
        interpreter.set_input(
            {**_KNOWN, "sub": str(request.subject), "kind": request.kind, "level": level, "scope": request.scope}
        )
        return '"expressions":[true]' in str(interpreter.query_bundle(bundle)).replace(" ", "")

    return ask


def _rego_rule(rule: BenchRule) -> dict[str, object]:
    found: dict[str, object] = {"effect": rule.effect, "level": int(LEVELS[rule.level])}
    if rule.scope.endswith("/*"):
        found |= {"scope": rule.scope[:-2], "below": rule.scope[:-1]}
    elif rule.scope.startswith("*."):
        found |= {"scope": None, "host": rule.scope[1:]}
    else:
        found["scope"] = rule.scope
    for term in _terms(rule):
        found |= _REGO_TERMS[term]
    return found
