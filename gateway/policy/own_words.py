"""What the matcher of an operator's own model may say: nothing that is not true or false for whatever is asked."""

import ast
from collections.abc import Collection, Iterable

from gateway.domain.permission import Kind
from gateway.policy.expression import Unproven
from gateway.policy.functions import KNOWN_FUNCTIONS

_DEEPEST = 50  # so that Casbin never runs out of depth, wherever it is asked from
_CONDITION = "cond(p_cond, p_eft, r_ctx)"
_ARITIES = {"g": 2, "cond": 3} | {name: known.arity for name, known in KNOWN_FUNCTIONS.items()}
_ORDER = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def check_words(matcher: ast.expr, names: Collection[str]) -> None:
    """Check a matcher; `names` are the values of a request and of a rule.

    Raises:
        Unproven: it says something else.
    """
    _check_truth(matcher, names, _DEEPEST)
    words = [*ast.walk(matcher)]
    joined = matcher.values if isinstance(matcher, ast.BoolOp) and isinstance(matcher.op, ast.And) else []
    conditions = [each for each in _calls(words, "cond") if ast.unparse(each) == _CONDITION]
    facts = [each for each in words if isinstance(each, ast.Name) and each.id == "r_ctx"]
    # SECURITY: a rule that is not held to its condition gives what nobody meant to give.
    if len(facts) != 1 or len([*_calls(words, "cond")]) != 1 or not any(each in joined for each in conditions):
        raise Unproven("`... && cond(p.cond, p.eft, r.ctx)` stands in it once, and `r.ctx` nowhere else")
    for call in _calls(words, "g"):
        # INVARIANT: an answer depends on what the asking subject belongs to, on nobody else's belongings.
        if not _is_name(call.args[0], ("r_sub",)):
            raise Unproven(f"{_shown(call)}: `g` tells what `r.sub` belongs to")
    if any(isinstance(each, ast.Constant) and each.value == Kind.GATEWAY for each in words):
        raise Unproven("`gateway`: what people may do to the gateway goes by the shipped model")


def _check_truth(node: ast.expr, names: Collection[str], left: int) -> None:
    if not left:
        raise Unproven(f"nested deeper than {_DEEPEST}")
    match node:
        case ast.BoolOp(values=values):
            for each in values:
                _check_truth(each, names, left - 1)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check_truth(operand, names, left - 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _ARITIES:
            if len(args) != _ARITIES[name] or not all(_is_text(each, names) for each in args):
                raise Unproven(f"{_shown(node)}: `{name}` takes {_ARITIES[name]} texts")
        case ast.Compare(left=one, ops=[op], comparators=[other]) if _is_text(one, names):
            if not _is_compared(op, other, names):
                raise Unproven(_shown(node))
        case _:
            raise Unproven(_shown(node))


def _is_compared(op: ast.cmpop, node: ast.expr, names: Collection[str]) -> bool:
    if isinstance(op, ast.In | ast.NotIn) and isinstance(node, ast.Tuple | ast.List):
        return all(_is_literal(each) for each in node.elts)
    return isinstance(op, (*_ORDER, ast.In, ast.NotIn)) and _is_text(node, names)


def _is_text(node: ast.expr, names: Collection[str]) -> bool:
    return _is_name(node, names) or _is_literal(node)


def _is_name(node: ast.expr, names: Collection[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _calls(words: Iterable[ast.AST], name: str) -> Iterable[ast.Call]:
    return (each for each in words if isinstance(each, ast.Call) and _is_name(each.func, (name,)))


def _shown(node: ast.expr) -> str:
    return f"`{ast.unparse(node)[:80]}`"
