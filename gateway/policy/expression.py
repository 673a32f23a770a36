"""Expressions of a matcher as plain functions that mean what Casbin's own evaluator means."""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

Values = tuple[Any, ...]
Evaluator = Callable[[Values], Any]
PLAIN = frozenset({str, int, float, bool, type(None)})
_LONGEST_TEXT = 100_000  # longer ones are refused by Casbin's evaluator
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, whole: operator.contains(whole, item),
    ast.NotIn: lambda item, whole: not operator.contains(whole, item),
}


class Unproven(Exception):  # noqa: N818 (it is no error: stock Casbin answers instead)
    """Something is not known to mean the same here as in stock Casbin."""


def evaluator(  # noqa: PLR0911 (one answer for each kind of node)
    node: ast.expr, places: Mapping[str, int], functions: Mapping[str, Callable[..., Any]]
) -> Evaluator:
    """Give a function of the values at `places` that answers what Casbin's evaluator would.

    Raises:
        Unproven: the expression says something that is not known to mean the same.

    """

    def below(inner: ast.expr) -> Evaluator:
        return evaluator(inner, places, functions)

    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return _all([below(value) for value in values])
        case ast.BoolOp(op=ast.Or(), values=values):
            return _any([below(value) for value in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _not(below(operand))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _compare(_COMPARE[type(op)], below(left), below(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in functions:
            return _call(functions[name], args, places, [below(arg) for arg in args])
        case ast.Name(id=name) if name in places:
            return itemgetter(places[name])
        case ast.Constant(value=value) if type(value) in PLAIN and len(str(value)) <= _LONGEST_TEXT:
            return _constant(value)
        case ast.Tuple(elts=items) | ast.List(elts=items) if all(isinstance(item, ast.Constant) for item in items):
            whole = tuple(below(item)(()) for item in items)
            return _constant(whole if isinstance(node, ast.Tuple) else list(whole))
        case _:
            raise Unproven(f"`{ast.unparse(node)[:80]}` is left to stock Casbin")


def _all(tests: Sequence[Evaluator]) -> Evaluator:
    def holds(values: Values) -> Any:  # noqa: ANN401 (as in Casbin: the value that decided)
        answer = False
        for test in tests:
            answer = test(values)
            if not answer:
                break
        return answer

    return holds


def _any(tests: Sequence[Evaluator]) -> Evaluator:
    def holds(values: Values) -> Any:  # noqa: ANN401 (as in Casbin: the value that decided)
        answer = False
        for test in tests:
            answer = test(values)
            if answer:
                break
        return answer

    return holds


def _not(test: Evaluator) -> Evaluator:
    return lambda values: not test(values)


def _compare(compare: Callable[[Any, Any], Any], left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda values: compare(left(values), right(values))


def _constant(value: object) -> Evaluator:
    return lambda _values: value


def _call(
    function: Callable[..., Any], nodes: Sequence[ast.expr], places: Mapping[str, int], args: Sequence[Evaluator]
) -> Evaluator:
    at = [places[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in places]
    if len(at) == len(nodes) > 1:
        take = itemgetter(*at)
        return lambda values: _plain(function(*take(values)))
    return lambda values: _plain(function(*(arg(values) for arg in args)))


def _plain(answer: Any) -> Any:  # noqa: ANN401 (whatever a function answers)
    if type(answer) in PLAIN:
        return answer
    raise Unproven("a function answered with more than text, number or truth")
