"""From a Casbin enforcer to compiled rules, or to the reason why stock Casbin must answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from casbin.rbac import default_role_manager
from casbin.util import has_eval

from gateway.policy.anchors import Known
from gateway.policy.compiled import Closure, Compiled, compile_rows
from gateway.policy.expression import Unproven
from gateway.policy.fixed_roles import FixedRoles
from gateway.policy.functions import RuleText
from gateway.policy.matcher import Lookup, Matcher, Words, take_apart
from gateway.policy.pauses import Pause, never

_TEXTS = {str, RuleText}  # which mean what they say


def compile_enforcer(enforcer: Any, known: Mapping[str, Known], pause: Pause = never) -> Compiled:  # noqa: ANN401 (casbin is not typed)
    """Compile the rules of an enforcer.

    Raises:
        Unproven: stock Casbin must answer, and why.

    """
    sections = enforcer.model
    if any(name not in (sections[name] or ()) for name in "rpem"):
        raise Unproven("the model lacks a section")
    matcher = compile_matcher(enforcer, known)
    return compile_rows(
        matcher,
        _rows(sections["p"]["p"], matcher, len(sections["r"]["r"].tokens)),
        known=known,
        closures=_closures(enforcer, matcher),
        pause=pause,
    )


def compile_matcher(enforcer: Any, known: Mapping[str, Known]) -> Matcher:  # noqa: ANN401 (casbin is not typed)
    """Take the matcher of an enforcer apart.

    Raises:
        Unproven: it says something that is not known to mean the same here.

    """
    model = enforcer.model
    text = model["m"]["m"].value
    if has_eval(text):
        raise Unproven("`eval()` in the matcher")
    if enforcer.cond_rm_map:
        raise Unproven("roles with conditions")
    functions = _functions(enforcer)
    asked, ruled = model["r"]["r"].tokens, model["p"]["p"].tokens
    names = [*asked, *ruled]
    if len(set(names)) != len(names):
        raise Unproven("a name stands for two values")
    roles = frozenset(name for name in model["g"] or () if _closure_of(model["g"][name].rm) is not None)
    words = Words(
        places={name: place for place, name in enumerate(names)},
        asked=len(asked),
        functions=functions,
        known={name: how for name, how in known.items() if functions.get(name) is how.function},
        roles=roles if enforcer.rm_map else frozenset(),
    )
    return take_apart(text, words)


def _functions(enforcer: Any) -> dict[str, Callable[..., Any]]:  # noqa: ANN401 (casbin is not typed)
    """Give what the matcher may call, refused by Casbin's evaluator or not as it refuses."""
    functions = dict(enforcer.fm.get_functions())
    try:
        enforcer._get_expression("True", functions)  # noqa: SLF001 (it refuses some functions; so must we)
    except Exception as error:  # noqa: BLE001 (stock Casbin answers instead, and meets it again)
        raise Unproven(f"a function that Casbin refuses: {error}") from None
    for name, assertion in (enforcer.model["g"] or {}).items():
        functions[name] = _linked(assertion.rm)
    return functions


def _linked(rm: Any) -> Callable[..., Any]:  # noqa: ANN401 (casbin is not typed)
    closure = _closure_of(rm)

    def linked(*args: Any) -> Any:  # noqa: ANN401 (as in Casbin)
        if not rm:
            return args[0] == args[1]
        if closure is not None and [*map(type, args)] == [str, str]:
            return args[1] in closure(args[0])
        return rm.has_link(args[0], args[1], *(str(each) for each in args[2:3]))

    return linked


def _rows(assertion: Any, matcher: Matcher, asked: int) -> Sequence[tuple[str, ...]]:  # noqa: ANN401 (casbin is not typed)
    width = len(assertion.tokens)
    texts = [place - asked for place in matcher.texts if place >= asked]
    rows = [row if type(row) is tuple else tuple(row) for row in assertion.policy]
    if not rows:
        raise Unproven("there is no rule at all")
    if any(len(row) != width for row in rows):
        raise Unproven("a rule has more or less values than the model names")
    for place, values in enumerate(zip(*rows, strict=True)):
        held = set(map(type, values))
        if not (held <= _TEXTS or (place not in texts and all(issubclass(kind, str) for kind in held))):
            raise Unproven("a rule holds a value that is no text")
    return rows


def _closures(enforcer: Any, matcher: Matcher) -> Mapping[str, Closure]:  # noqa: ANN401 (casbin is not typed)
    names = {key.name for key in matcher.keys if key.lookup is Lookup.ROLE}
    found = {name: _closure_of(enforcer.model["g"][name].rm) for name in names}
    return {name: closure for name, closure in found.items() if closure is not None}


def _closure_of(rm: Any) -> Closure | None:  # noqa: ANN401 (casbin is not typed)
    """Give what tells all that a subject belongs to, None if that is not known for such a role manager."""
    if isinstance(rm, FixedRoles):
        return rm.closure
    if type(rm) is not default_role_manager.RoleManager or rm.matching_func is not None:
        return None

    def closure(name: str) -> Sequence[str]:
        # SECURITY: looked up, never made: Casbin's own has_link keeps an object for every stranger that asks.
        role = rm.all_roles.get(name)
        seen = {name: role}
        border = [role]
        for _ in range(rm.max_hierarchy_level - 1):
            border = [above for each in border if each is not None for above in each.roles if above.name not in seen]
            if not border:
                break
            seen.update((above.name, above) for above in border)
        return tuple(seen)

    return closure
