"""Posted TOML costs no more than its size, however it is written."""

import time
from collections.abc import Callable

import pytest

from gateway.policy.parse import parse_policy
from gateway.policy.problems import Problems
from gateway.policy.text import PolicyText
from gateway.policy.toml_file import parse_toml

Edited = Callable[..., PolicyText]
QUOTED = '"\\""'  # a quoted key with a quote in it


@pytest.mark.parametrize(
    "key",
    [
        ".".join(["a"] * 100_000),
        " . ".join(["'a'"] * 100_000),
        ".".join([QUOTED] * 100_000),
    ],
)
@pytest.mark.parametrize("line", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "x = [{{{} = 1}}]"])
def test_a_key_of_many_parts_is_refused_before_it_is_read(edited: Edited, line: str, key: str) -> None:
    began = time.process_time()
    parsed = parse_policy(edited({"entities.toml": f"[user.alice]\nage = 3\n{line.format(key)}\n"}))
    assert [str(each) for each in parsed.problems] == ["entities.toml:3: a key of more than 32 parts"]
    assert time.process_time() - began < 2


def test_dots_in_texts_and_keys_of_a_few_parts_are_none_of_them(edited: Edited) -> None:
    entities = f'[user.alice]\nsite = "{"a." * 30}org"\n"{"b." * 30}" = 1\n'
    assert not parse_policy(edited({"entities.toml": entities})).problems


def test_many_long_texts_on_a_line_are_looked_at_once() -> None:
    problems = Problems()
    text = "first = [" + '"""x""",' * 200_000 + "]\nlast = 1\n"
    began = time.process_time()
    read = parse_toml("x.toml", text.encode(), problems)
    assert read is not None
    assert (read.line("first"), read.line("last")) == (1, 2)
    assert time.process_time() - began < 8
