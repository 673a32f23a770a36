"""What a JSON value must be: a type word, or a JSON Schema that is judged in time that grows with the value alone."""

from collections.abc import Iterator, Mapping
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
MOST_SCHEMAS = 64  # in one, itself and those within
_DEPTH = 12
_PATTERN_BYTES = 64 << 10  # compiled


@dataclass(frozen=True, slots=True)
class Shape:
    """What a JSON value must be, as an author wrote it."""

    written: Json
    _validator: Draft202012Validator | None = field(default=None, compare=False, repr=False)

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
        try:
            wrong = next(self._validator.iter_errors(value), None)
        except ValueError:
            return "cannot be judged"  # SECURITY: what cannot be judged is wrong: a number beyond all bounds
        if wrong is None:
            return None
        where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}"[:80] for each in wrong.instance_path)
        return f"{where.lstrip('.')}: {wrong.message}" if where else wrong.message


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
    if sum(1 for _ in _schemas(written, "", 0)) > MOST_SCHEMAS:
        raise MalformedError(f"a schema of more than {MOST_SCHEMAS} schemas")
    try:
        validator = Draft202012Validator(
            written,
            validate_formats=True,
            ignore_unknown_formats=False,
            offline=True,
            mask="it",
            # SECURITY: patterns are matched in linear time, for who wrote one and who sends the text may be one.
            pattern_options=RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES * 16),
        )
    except (ValidationError, ValueError) as error:
        raise MalformedError(f"no JSON Schema: {str(error).splitlines()[0][:200]}") from None
    return Shape(written, validator)


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
