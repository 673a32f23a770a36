"""What a JSON value must be: a type word, or a JSON Schema that is judged in time and memory that its value bounds."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from gateway.domain.request import Json
from gateway.errors import MalformedError

TYPE_WORDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
    "any": object,
}
# SECURITY: no references, for a schema that names itself could be judged for ever, or fetched from elsewhere.
KEYWORDS = frozenset(
    {
        "type", "enum", "const", "title", "description", "default", "examples", "deprecated",
        "properties", "required", "additionalProperties", "minProperties", "maxProperties", "propertyNames",
        "items", "prefixItems", "minItems", "maxItems", "uniqueItems",
        "minLength", "maxLength", "pattern", "format",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "anyOf", "oneOf", "allOf", "not",
    }
)  # fmt: skip
_OF_ONE = ("additionalProperties", "propertyNames", "items", "not")
_OF_LIST = ("prefixItems", "anyOf", "oneOf", "allOf")
MOST_SCHEMAS = 64  # in one, itself and those within; a list or an object of an `enum` is one
MOST_BYTES = 64 << 10  # of one, as JSON
MOST_MULTIPLES = 4  # `multipleOf` in one: each is a division of numbers of any length
MOST_MATCHED = 256 << 10  # characters of a value whose schema has patterns
_DEPTH = 12
_PATTERN_BYTES = 64 << 10  # compiled, of all patterns of one schema
_MOST_TOLD = 100  # values within a value that is told where it fits none of several schemas


@dataclass(frozen=True, slots=True)
class Shape:
    """What a JSON value must be, as an author wrote it."""

    written: Json
    _validator: Draft202012Validator | None = field(default=None, compare=False, repr=False)
    _has_patterns: bool = field(default=False, compare=False, repr=False)
    _has_alternatives: bool = field(default=False, compare=False, repr=False)

    @property
    def schema(self) -> dict[str, Json]:
        """The same as a JSON Schema."""
        if isinstance(self.written, dict):
            return self.written
        return {} if self.written == "any" else {"type": self.written}

    @property
    def spelt(self) -> str:
        """The same in a word or two."""
        if isinstance(self.written, str):
            return self.written
        kind = self.schema.get("type", "any")
        return kind if isinstance(kind, str) else " or ".join(map(str, kind)) if isinstance(kind, list) else "any"

    def fault(self, value: Json) -> str | None:
        """Say what is wrong with a value, without a word of it; None if nothing is."""
        if self._validator is None:
            return None if fits(value, str(self.written)) else f"{self.written} is needed"
        if self._has_patterns and _is_longer_than(value, MOST_MATCHED):
            return f"more than {MOST_MATCHED} characters are not judged by patterns"
        wrong = self._fault(self._validator, value)
        if wrong is None or isinstance(wrong, str):
            return wrong
        where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}"[:80] for each in wrong.instance_path)
        return f"{where.lstrip('.')}: {wrong.message}" if where else wrong.message

    def _fault(self, validator: Draft202012Validator, value: Json) -> ValidationError | str | None:
        try:
            if validator.is_valid(value):
                return None
            # SECURITY: what fits none of several schemas is told with every fault in each of them, which is gigabytes.
            if not self._has_alternatives or not _holds_more_than(value, _MOST_TOLD):
                validator.validate(value)
        except ValidationError as wrong:
            return wrong
        except ValueError:
            return "cannot be judged"  # SECURITY: what cannot be judged is wrong: a number beyond all bounds
        return "it is not what its schema says"


def parse_shape(written: Json) -> Shape:
    """Read a type word or a JSON Schema.

    Raises:
        MalformedError: it is neither, or says more than this gateway judges.
    """
    if isinstance(written, str):
        if written not in TYPE_WORDS:
            raise MalformedError(f"`{written[:80]}`: one of {', '.join(TYPE_WORDS)}, or a JSON Schema")
        return Shape(written)
    if not isinstance(written, dict):
        raise MalformedError("a type word or a JSON Schema is needed")
    schemas = _bounded(written)
    patterns = sum("pattern" in each for each in schemas)
    # SECURITY: patterns are matched in linear time, for who wrote one and who sends the text may be one; but each
    # character takes as long as all patterns are large.
    size = _PATTERN_BYTES // max(patterns, 1)
    try:
        validator = Draft202012Validator(
            written,
            validate_formats=True,
            ignore_unknown_formats=False,
            offline=True,
            mask="it",
            pattern_options=RegexOptions(size_limit=size, dfa_size_limit=_PATTERN_BYTES * 16),
        )
    except (ValidationError, ValueError) as error:
        raise MalformedError(f"no JSON Schema: {str(error).splitlines()[0][:200]}") from None
    alternatives = any({"anyOf", "oneOf"} & set(each) for each in schemas)
    return Shape(written, validator, _has_patterns=patterns > 0, _has_alternatives=alternatives)


def _bounded(written: dict[str, Json]) -> list[Mapping[str, Json]]:
    """Give a schema and all within it.

    Raises:
        MalformedError: it is larger than what is judged.
    """
    schemas = list(_schemas(written, "", 0))
    listed = [value for each in schemas if isinstance(value := each.get("enum"), list)]
    if len(schemas) + sum(isinstance(each, dict | list) for values in listed for each in values) > MOST_SCHEMAS:
        raise MalformedError(f"a schema of more than {MOST_SCHEMAS} schemas")
    if sum("multipleOf" in each for each in schemas) > MOST_MULTIPLES:
        raise MalformedError(f"more than {MOST_MULTIPLES} `multipleOf` in one schema")
    try:
        size = len(json.dumps(written))
    except RecursionError:
        raise MalformedError("a schema with a value that is nested too deeply") from None
    if size > MOST_BYTES:
        raise MalformedError(f"a schema of more than {MOST_BYTES >> 10} KiB")
    return schemas


def fits(value: Json, type_word: str) -> bool:
    """Tell whether a JSON value is of the type that a word names; true and false are no numbers."""
    if isinstance(value, bool) and type_word in {"number", "integer"}:
        return False
    return isinstance(value, TYPE_WORDS[type_word])


def _schemas(schema: Json, place: str, depth: int) -> Iterator[Mapping[str, Json]]:
    """Give a schema and all within it."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise MalformedError(f"{place or 'schema'}: an object is needed")
    if depth > _DEPTH:
        raise MalformedError(f"{place[:80]}: nested more than {_DEPTH} deep")
    unknown = sorted(set(schema) - KEYWORDS)
    if unknown:
        raise MalformedError(f"{place}{'.' if place else ''}{unknown[0][:80]}: is not understood")
    yield schema
    for name in _OF_ONE:
        if name in schema:
            yield from _schemas(schema[name], f"{place}.{name}".lstrip("."), depth + 1)
    for name in _OF_LIST:
        listed = schema.get(name, [])
        for number, each in enumerate(listed if isinstance(listed, list) else ()):
            yield from _schemas(each, f"{place}.{name}[{number}]".lstrip("."), depth + 1)
    named = schema.get("properties", {})
    for name, each in named.items() if isinstance(named, dict) else ():
        yield from _schemas(each, f"{place}.properties.{name}".lstrip(".")[:200], depth + 1)


def _holds_more_than(value: Json, most: int) -> bool:
    """Tell whether there are more values than that within a value."""
    for each in _inner(value):
        most -= len(each)
        if most < 0:
            return True
    return False


def _is_longer_than(value: Json, most: int) -> bool:
    """Tell whether the texts of a value, names of members among them, have more characters than that."""
    if isinstance(value, str):
        return len(value) > most
    for each in _inner(value):
        most -= sum(len(text) for text in _members(each) if isinstance(text, str))
        if isinstance(each, dict):
            most -= sum(map(len, each))
        if most < 0:
            return True
    return False


def _inner(value: Json) -> Iterator[dict[str, Json] | list[Json]]:
    """Give a value and all within it that are lists or objects."""
    left = [value] if isinstance(value, dict | list) else []
    while left:
        each = left.pop()
        yield each
        left += [inner for inner in _members(each) if isinstance(inner, dict | list)]


def _members(value: dict[str, Json] | list[Json]) -> Iterable[Json]:
    return value.values() if isinstance(value, dict) else value
