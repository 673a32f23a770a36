"""Comparisons of attributes: `resource.owner == subject.id`, `context.amount <= 100`, `args.path in a|b`."""

import math
import re
from collections.abc import Mapping

from gateway.domain.condition import Attribute, Compare, Literal, Operator
from gateway.domain.request import Json
from gateway.errors import MalformedError
from gateway.policy.encode import decode_field

_PATH = r"(?:subject|resource|action|context|args)(?:\.[A-Za-z_][A-Za-z0-9_-]*)+"
_COMPARE = re.compile(rf"({_PATH})\s+(==|!=|<=|>=|<|>|in|startswith)\s+(\S.*)\Z")
_ATTRIBUTE = re.compile(rf"{_PATH}\Z")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?\Z", re.ASCII)
_ORDER = frozenset({Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST})
Scalar = str | int | float | bool


class UnknownAttributeError(Exception):
    """An attribute is missing, or of another type than the comparison needs."""


def parse_comparison(text: str) -> Compare | None:
    """Give the comparison written as `text`, None if it is not written like one.

    Raises:
        MalformedError: it compares what cannot be compared.

    """
    found = _COMPARE.match(text)
    if found is None:
        return None
    operator = Operator(found[2])
    right = _right(found[3], operator)
    if operator in _ORDER and not isinstance(right, Attribute) and _type(right) is not float:
        raise MalformedError(f"condition '{text[:80]}': `{operator}` compares numbers")
    if operator is Operator.STARTS_WITH and not isinstance(right, Attribute | str):
        raise MalformedError(f"condition '{text[:80]}': `startswith` compares text: write a digit as %3X")
    return Compare(left=_attribute(found[1]), operator=operator, right=right)


def _right(text: str, operator: Operator) -> Literal | tuple[Literal, ...] | Attribute:
    if _ATTRIBUTE.match(text):
        return _attribute(text)
    if operator is not Operator.IN:
        return _literal(text)
    return tuple(_literal(item.strip()) for item in text.split("|"))


def _attribute(text: str) -> Attribute:
    return Attribute(path=tuple(text.split(".")))


def _literal(text: str) -> Literal:
    if not text:
        raise MalformedError("condition: an empty value: `in` is written `in a|b|c`")
    if text in {"true", "false"}:
        return text == "true"
    if _NUMBER.match(text):
        return float(text) if "." in text else int(text)
    if re.search(r"[|<>=!()]", text):
        raise MalformedError(f"condition: value '{text[:80]}': write `|`, `<`, `>`, `=`, `!` and brackets as %XX")
    return decode_field(text)


def holds(compare: Compare, attributes: Mapping[str, Mapping[str, Json]]) -> bool:
    """Tell whether the comparison is true.

    Raises:
        UnknownAttributeError: that cannot be told.

    """
    left = _scalar(_value(compare.left, attributes), compare.left)
    right = compare.right
    if isinstance(right, Attribute):
        found = _value(right, attributes)
        if compare.operator is Operator.IN:
            return _is_in(left, found if isinstance(found, list) else [])
        return _compare(left, compare.operator, _scalar(found, right))
    if isinstance(right, tuple):
        return _is_in(left, right)
    return _compare(left, compare.operator, right)


def _value(attribute: Attribute, attributes: Mapping[str, Mapping[str, Json]]) -> object:
    value: object = attributes
    for name in attribute.path:
        if not isinstance(value, Mapping) or name not in value:
            raise UnknownAttributeError(f"`{'.'.join(attribute.path)}` is not known")
        value = value[name]
    return value


def _scalar(value: object, attribute: Attribute) -> Scalar:
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UnknownAttributeError(f"`{'.'.join(attribute.path)}` is neither text nor a number nor a truth value")


def _type(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _is_in(left: Scalar, right: tuple[Literal, ...] | list[object]) -> bool:
    alike = [item for item in right if _type(item) is _type(left)]
    if not alike:
        raise UnknownAttributeError(f"`{left}` is of another type than the values of `in`")
    return left in alike


def _compare(left: Scalar, operator: Operator, right: Scalar) -> bool:
    if _type(left) is not _type(right):
        raise UnknownAttributeError(f"`{left}` and `{right}` are of different types")
    match operator:
        case Operator.EQUAL:
            return left == right
        case Operator.UNEQUAL:
            return left != right
        case Operator.STARTS_WITH if isinstance(left, str) and isinstance(right, str):
            return left.startswith(right)
        case Operator.LESS | Operator.AT_MOST | Operator.GREATER | Operator.AT_LEAST if _type(left) is float:
            return _ordered(left, operator, right)
        case _:
            raise UnknownAttributeError(f"`{operator}` cannot compare `{left}` and `{right}`")


def _ordered(left: Scalar, operator: Operator, right: Scalar) -> bool:
    difference = (left > right) - (left < right)  # type: ignore[operator] # both are numbers: the caller has looked
    return {
        Operator.LESS: difference < 0,
        Operator.AT_MOST: difference <= 0,
        Operator.GREATER: difference > 0,
        Operator.AT_LEAST: difference >= 0,
    }[operator]
