"""A Casbin matcher, taken apart: what can be looked up, what can be kept, and what must be asked each time.

Only what is proven to mean the same as in stock Casbin is taken; for anything else there is a reason not to.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from gateway.policy.anchors import Known
from gateway.policy.expression import Unproven, Values, evaluator

Test = Callable[[Values], Any]
_ASKED_ONLY = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)


class Lookup(Enum):
    """How a request finds the rules that a conjunct lets through."""

    ROLE = "role"  # by everything that the asked value belongs to
    SAME = "same"  # by the asked value itself
    ANCHOR = "anchor"  # by the probes of a known function


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One step of the index: which asked value finds which value of a rule."""

    lookup: Lookup
    asked: int
    ruled: int
    name: str = ""  # of the role definition or of the known function


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A matcher as steps of an index, tests that depend on texts alone, and one that is asked live."""

    keys: tuple[Key, ...]
    lasting: tuple[Test, ...]
    live: Test | None
    texts: frozenset[int]  # the values, asked or ruled, that must be plain texts for all this to be true


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the names of a matcher stand for; `places` counts through the asked values, then the ruled ones."""

    places: Mapping[str, int]
    asked: int  # how many of the places are asked values
    functions: Mapping[str, Callable[..., Any]]
    known: Mapping[str, Known]
    roles: frozenset[str]


def take_apart(text: str, words: Words) -> Matcher:
    """Take a matcher apart.

    Raises:
        Unproven: it says something that is not known to mean the same here.

    """
    conjuncts = _conjuncts(parse_matcher(text))
    keys: list[Key] = []
    lasting: list[Test] = []
    texts: set[int] = set()
    for number, node in enumerate(conjuncts):
        # INVARIANT: only what cannot fail goes before its turn; from the first that may, all stay in order.
        key = _key(node, words)
        if key is None and not _is_certain(node, words):
            live = node if number == len(conjuncts) - 1 else ast.BoolOp(op=ast.And(), values=conjuncts[number:])
            return Matcher(
                keys=tuple(keys), lasting=tuple(lasting), live=evaluator(live, words.places, words.functions),
                texts=frozenset(texts),
            )  # fmt: skip
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        texts.update(place for name, place in words.places.items() if name in names)
        if key is None:
            lasting.append(evaluator(node, words.places, words.functions))
        else:
            keys.append(key)
    return Matcher(keys=tuple(keys), lasting=tuple(lasting), live=None, texts=frozenset(texts))


# WHY: kept, for CPython 3.11 may fail when two threads parse at once, and every set has the same few matchers.
@lru_cache(maxsize=64)
def parse_matcher(text: str) -> ast.expr:
    """Parse a matcher as Casbin holds it, its dots spelt `_`.

    Raises:
        Unproven: it is not one expression.

    """
    # WHY: the same rewriting, as blind to quotes, that stock Casbin does before it parses.
    text = text.replace("&&", "and").replace("||", "or")
    text = re.sub(r"!(?!=)", "not ", text)
    try:
        body = ast.parse(text.strip()).body
    except (SyntaxError, ValueError):
        raise Unproven("the matcher cannot be parsed") from None
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        raise Unproven("the matcher is not one expression")
    return body[0].value


def _conjuncts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _conjuncts(value)]
    return [node]


def _is_certain(node: ast.expr, words: Words) -> bool:
    """Tell whether `node` is true or false for any texts, and never raises."""
    match node:
        case ast.BoolOp(values=values):
            return all(_is_certain(value, words) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_certain(operand, words)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return isinstance(op, _ASKED_ONLY) and _is_text(left, words) and _is_comparable(op, right, words)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name in words.roles:
                return _role_key(node, words) is not None
            return _is_known(name, args, words)
        case _:
            return False


def _is_known(name: str, args: Sequence[ast.expr], words: Words) -> bool:
    known = words.known.get(name)
    return known is not None and known.is_total and _is_call_of(known, args, words)


def _is_call_of(known: Known, args: Sequence[ast.expr], words: Words) -> bool:
    return len(args) == known.arity and all(_is_text(arg, words) for arg in args)


def _is_comparable(op: ast.cmpop, node: ast.expr, words: Words) -> bool:
    if isinstance(op, ast.In | ast.NotIn) and isinstance(node, ast.Tuple | ast.List):
        return all(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in node.elts)
    return _is_text(node, words)


def _is_text(node: ast.AST, words: Words) -> bool:
    return _is_place(node, words) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_place(node: ast.AST, words: Words) -> bool:
    return isinstance(node, ast.Name) and node.id in words.places


def _key(node: ast.expr, words: Words) -> Key | None:
    """Give how the rules that `node` lets through are looked up, None if they cannot be."""
    match node:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _ordered_key(Lookup.SAME, [left, right], words) or _ordered_key(Lookup.SAME, [right, left], words)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in words.roles:
            return _role_key(node, words)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in words.known:
            known = words.known[name]
            if known.probes is not None and _is_call_of(known, args, words):
                return _ordered_key(Lookup.ANCHOR, args, words, name)
    return None


def _role_key(node: ast.Call, words: Words) -> Key | None:
    return _ordered_key(Lookup.ROLE, node.args, words, node.func.id if isinstance(node.func, ast.Name) else "")


def _ordered_key(lookup: Lookup, nodes: Sequence[ast.expr], words: Words, name: str = "") -> Key | None:
    places = [words.places[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in words.places]
    if len(nodes) == len(places) == 2 and places[0] < words.asked <= places[1]:  # noqa: PLR2004 (asked and ruled)
        return Key(lookup=lookup, asked=places[0], ruled=places[1] - words.asked, name=name)
    return None
