"""A TOML file with the places of its keys, so that every problem can name a line."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.policy.lines import read_text
from gateway.policy.problems import Problems
from gateway.policy.spelling import did_you_mean

Path = tuple[str | int, ...]
_AT = re.compile(r"\s*\(at line (\d+), column (\d+)\)\Z")
_AT_END = re.compile(r"\s*\(at end of document\)\Z")
_KEY = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"\s*\[\s*({_KEYS})\s*\]")
_ARRAY = re.compile(rf"\s*\[\[\s*({_KEYS})\s*\]\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*")
_LONG = re.compile(r"\"\"\"|'''")
_MOST_PARTS = 32  # of a dotted key; no file of a policy needs more than three
_PART = r"(?:[A-Za-z0-9_-]++|\"[^\"\\\n]*+(?:\\.[^\"\\\n]*+)*+\"|'[^'\n]*+')"
_LONG_KEY = re.compile(rf"(?<![^\s.\[{{,])(?:{_PART}[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlFile:
    """What a file says, and where."""

    file: str
    content: Mapping[str, object]
    lines: Mapping[Path, int]
    problems: Problems

    def line(self, *path: str | int) -> int | None:
        """Give the line where `path`, or as much of it as has one, stands."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None

    def error(self, message: str, *path: str | int) -> None:
        """Note a problem at `path`."""
        self.problems.error(self.file, message, self.line(*path))

    def table(self, value: object, *path: str | int) -> Mapping[str, object]:
        """Give `value` if it is a table; else note that it is none."""
        if isinstance(value, Mapping):
            return value
        self.error(f"`{_spell(path)}` must be a table", *path)
        return {}

    def tables(self, name: str) -> list[tuple[int, Mapping[str, object]]]:
        """Give the tables of `[[name]]` with their numbers."""
        value = self.content.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.error(f"`{name}` must be written as `[[{name}]]`", name)
            return []
        return list(enumerate(value))

    def only(self, table: Mapping[str, object], known: Iterable[str], *path: str | int) -> None:
        """Note every key of `table` that is not `known`."""
        known = tuple(known)
        for key in table:
            if key not in known:
                hint = did_you_mean(key, known) or f": known are {', '.join(known)}"
                self.error(f"unknown key `{_spell((*path, key))}`{hint}", *path, key)

    def text(self, table: Mapping[str, object], name: str, *path: str | int) -> str | None:
        """Give the text `name` of `table`; else note that it is missing or none."""
        value = table.get(name)
        if isinstance(value, str) and value:
            return value
        self.error(f"`{_spell((*path, name))}` must be a text", *path, name)
        return None

    def number(self, table: Mapping[str, object], name: str, most: int, *path: str | int) -> int | None:
        """Give the whole number `name` of `table` if it is 0 to `most`; else note that it is not."""
        value = table.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        self.error(f"`{_spell((*path, name))}` must be a whole number from 0 to {most}", *path, name)
        return None

    def texts(self, table: Mapping[str, object], name: str, *path: str | int) -> tuple[str, ...]:
        """Give the list of texts `name` of `table`, empty if it is missing; else note that it is none."""
        value = table.get(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.error(f"`{_spell((*path, name))}` must be a list of texts", *path, name)
        return ()


def parse_toml(file: str, data: bytes, problems: Problems) -> TomlFile | None:
    """Read a TOML file; None if it is none, which is then noted."""
    text = read_text(file, data, problems)
    if text is None:
        return None
    if long := _LONG_KEY.search(text):
        # SECURITY: a reader of TOML takes room and time with the square of the parts of a key.
        problems.error(file, f"a key of more than {_MOST_PARTS} parts", text.count("\n", 0, long.start()) + 1)
        return None
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.error(file, *_syntax_error(str(error), text))
        return None
    return TomlFile(file=file, content=content, lines=find_lines(text), problems=problems)


def _syntax_error(message: str, text: str) -> tuple[str, int, int | None]:
    if found := _AT.search(message):
        return _lowered(message[: found.start()]), int(found[1]), int(found[2])
    return _lowered(_AT_END.sub(" at the end of the file", message)), text.count("\n") + 1, None


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def find_lines(text: str) -> dict[Path, int]:
    """Tell on which line each table and key of a valid TOML text stands."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in _starts(text):
        if header := _ARRAY.match(line):
            path = _keys(header[1])
            counts[path] = counts.get(path, -1) + 1
            table = (*path, counts[path])
            found.setdefault(path, number)
            found[table] = number
        elif header := _TABLE.match(line):
            table = _under_last(_keys(header[1]), counts)
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault((*table, *_keys(assignment[1])), number)
    return found


def _under_last(path: Path, counts: Mapping[Path, int]) -> Path:
    for end in range(len(path), 0, -1):
        if path[:end] in counts:
            return (*path[:end], counts[path[:end]], *path[end:])
    return path


def _keys(text: str) -> Path:
    path: list[str] = []
    try:
        value: object = tomllib.loads(f"{text} = 0")
    except ValueError:
        return (text,)
    while isinstance(value, dict):
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)


def _starts(text: str) -> Iterable[tuple[int, str]]:
    """Give each line on which a header or a key can begin: none inside a list or a long text."""
    depth = 0
    quotes: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if depth == 0 and quotes is None:
            yield number, line
        at = 0
        while at < len(line):
            if quotes is not None:
                end = line.find(quotes, at)
                at, quotes = (len(line), quotes) if end < 0 else (end + len(quotes), None)
                continue
            opening = _LONG.search(line, at)
            plain = line[at : opening.start()] if opening else line[at:]
            bare = _STRING.sub("", plain)
            depth += sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
            if opening is None or "#" in _STRING.sub(_keep_comment, plain):
                break
            quotes, at = opening[0], opening.end()


def _keep_comment(found: re.Match[str]) -> str:
    return "#" if found[0].startswith("#") else ""


def _spell(path: Path) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)
