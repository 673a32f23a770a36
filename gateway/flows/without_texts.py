"""What of an error is recorded: its first line, without the texts that the call was given, which may be secrets."""

from collections.abc import Iterator, Mapping

from gateway.domain.request import Json

_MIN_CHARS = 6  # shorter texts are words of any sentence
_MOST_CHARS = 300


def without_texts(error: str, arguments: Mapping[str, Json]) -> str:
    """Give the first line of an error, each longer text of the arguments masked in it."""
    line = error.splitlines()[0] if error else ""
    for text in sorted(texts_of(dict(arguments)), key=len, reverse=True):
        if len(text) >= _MIN_CHARS:
            line = line.replace(text, "***")
    return line[:_MOST_CHARS]


def texts_of(value: Json) -> Iterator[str]:
    """Give every text of a JSON value, but for the names of members."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from texts_of(each)
        case list():
            for each in value:
                yield from texts_of(each)
