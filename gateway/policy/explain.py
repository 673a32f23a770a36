"""A decision in sentences, from its JSON alone: an old record explains itself without the policy of its day."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.domain.request import Json

_REASONS = {
    "no_rule": "No rule says anything about this, and what no rule allows is denied.",
    "inactive": "The plugin is not active, so no rule was asked.",
    "locked_down": "A lockdown is in force, so no rule was asked.",
    "held": "The right was revoked: a hold denies it until the rule is gone.",
    "no_policy": "No policy is in force, so everything is denied.",
    "error": "Something went wrong while deciding, and an error is a deny.",
}
_WAYS = {
    "consent_required": "The user can consent.",
    "approval_required": "A person can approve this call.",
    "rate_limited": "It can be asked again later.",
    "risk_too_high": "The risk is above what the rule allows.",
}


def explain(decision: Mapping[str, Json]) -> list[str]:
    """Say in sentences what was decided, why, and what nearly decided otherwise."""
    return [
        _answer(decision),
        *_why(decision),
        *_others(decision),
        *_near_misses(decision),
        *_risk(decision),
        _when(decision),
    ]


def _answer(decision: Mapping[str, Json]) -> str:
    verb = "may" if decision.get("effect") == "allow" else "may not"
    user = decision.get("user")
    behalf = f", on behalf of `{user}`," if user else ""
    scope = "something whose name was erased" if decision.get("scope") is None else f"`{decision.get('scope')}`"
    who = "Somebody whose name was erased" if decision.get("subject") is None else f"`{decision.get('subject')}`"
    return f"{who}{behalf} {verb} {decision.get('level')} {scope} of kind {decision.get('kind')}."


def _why(decision: Mapping[str, Json]) -> Iterable[str]:
    reason = str(decision.get("reason"))
    rule = decision.get("rule")
    if reason in _REASONS:
        yield _REASONS[reason]
    elif isinstance(rule, Mapping) and reason == "rule":
        word = "allows" if decision.get("effect") == "allow" else "denies"
        yield f"Rule {_name(rule)} {word} it: {rule.get('why') or 'it gives no reason'}."
    elif isinstance(rule, Mapping):
        yield f"Rule {_name(rule)} would allow it, but not every one of its conditions holds."
    if reason in _WAYS:
        yield _WAYS[reason]


def _others(decision: Mapping[str, Json]) -> Iterable[str]:
    """Tell of the rules that spoke besides the deciding one, where the JSON carries them."""
    rule = decision.get("rule")
    decider = rule.get("id") if isinstance(rule, Mapping) else None
    for other in _mappings(decision.get("spoke")):
        if other.get("id") == decider:
            continue
        word = "allows" if other.get("effect") == "allow" else "denies"
        if other.get("effect") == decision.get("effect"):
            yield f"Rule {_name(other)} also {word} it: {other.get('why') or 'it gives no reason'}."
        elif decision.get("reason") == "rule":
            yield f"Rule {_name(other)} {word} it, but a deny outranks every allow."
        else:
            yield f"Rule {_name(other)} {word} it, but rules did not decide alone."


def _near_misses(decision: Mapping[str, Json]) -> Iterable[str]:
    if "near_misses" in decision and decision["near_misses"] is None:
        yield "Which rules nearly allowed it was erased with a person's data."
    for miss in _mappings(decision.get("near_misses")):
        unmet = _texts(miss.get("unmet"))
        reasons = _texts(miss.get("reasons"))
        terms = ", ".join(f"`{term}`" for term in unmet)
        tail = f" ({'; '.join(reasons)})" if reasons else ""
        yield f"Rule {_name(miss)} would allow it but for {terms}{tail}."


def _risk(decision: Mapping[str, Json]) -> Iterable[str]:
    risk = decision.get("risk")
    if not isinstance(risk, Mapping):
        return
    parts = ", ".join(f"{part.get('name')} {part.get('points')}" for part in _mappings(risk.get("parts")))
    yield f"Its risk is {risk.get('score')} of 100, {risk.get('tier')}{f' ({parts})' if parts else ''}."


def _when(decision: Mapping[str, Json]) -> str:
    dry = " as a dry run" if decision.get("dry_run") is True else ""
    return (
        f"Decided{dry} at {decision.get('at')} by generation {decision.get('generation')}"
        f" of the policy, version {decision.get('policy_version')}."
    )


def _name(rule: Mapping[str, Json]) -> str:
    return f"`{rule.get('id')}` ({rule.get('file')}:{rule.get('line')})"


def _mappings(value: Json) -> Iterable[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _texts(value: Json) -> Sequence[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
