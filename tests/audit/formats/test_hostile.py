"""Whatever a plugin or a caller writes, each format's own reader gets it back, or a spelling that is documented."""

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow.parquet
import pytest

from gateway.audit import canonical
from gateway.domain.cell import read_cell
from gateway.domain.record import Record
from gateway.domain.spelling import read_controls

HOSTILE: dict[str, Any] = {
    "newlines": "one\ntwo\r\nthree",
    "NUL": "a\0b",
    "quotes": "say \"it\" and 'it'",
    "pipes and equals": "a|b=c\\d",
    "a formula": '=HYPERLINK("http://evil.example","x")',
    "a formula behind a delimiter": "harmless;=1+1,@SUM(A1)",
    "a formula behind an apostrophe": "'=1+1",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "a lone surrogate": "a\ud800b",
    "what looks spelt": "\\u001b \\\\u0000",
    "brackets": 'x] hearthgate@32473 y="z"',
    "separators of lines": "a\u2028b\u2029c\x85d",
    "wide": "\uff1d1+1 \U0001f600 e\u0301 \u202e",
    "huge": "x" * 60_000,
    "great integers": [2**53 + 1, -(2**63) - 1, 10**400],
    "fractions": [0.1, 1e300, -2.5e-9, 1e21],
    "negative numbers": [-1, {"a": -1, "b": "-1"}],
    "deep": {"a": [{"b": [[[[[{"c": "=1"}]]]]]}]},
    "names": {"=cmd": 1, "a\nb": 2, "": 3, '"': 4},
}
SYSLOG = re.compile(
    r"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) "
    r"\[hearthgate@32473((?: [A-Za-z]{1,32}=\"(?:[^\"\\\]]|\\[\"\\\]])*\")+)\] ([\x20-\x7e]*)\Z"
)
PARAM = re.compile(r" ([A-Za-z]+)=\"((?:[^\"\\\]]|\\[\"\\\]])*)\"")
CEF_HEAD = re.compile(r"((?:[^|\\]|\\[|\\])*)\|")
CEF_PAIR = re.compile(r"([A-Za-z0-9]+)=((?:[^=\\]|\\[=\\nr])*)(?: |\Z)(?=[A-Za-z0-9]+=|\Z)")


def as_recorded(value: Any) -> Any:  # noqa: ANN401 # any JSON value
    return canonical.tidy_json(value)


@pytest.fixture(params=sorted(HOSTILE))
def hostile(request: pytest.FixtureRequest, record: Callable[..., Record]) -> tuple[Any, Record]:
    """Give a value, and a record that holds it wherever a stranger's value can be."""
    value = HOSTILE[request.param]
    text = value if isinstance(value, str) else "plain"
    made = record(
        event_type="execution_failed",
        plugin_id=text,
        user_id=text,
        trace_id=text,
        details={"public": value},
        personal={"private": value},
        replay={"args": value},
    )
    return value, made


def by_csv(data: bytes) -> dict[str, Any]:
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert data.count(b"\n") == len(rows) + 1  # no cell breaks a line
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", data)
    row = rows[0]
    for cell in row.values():
        # However a spreadsheet takes the line apart, no cell of it begins like a formula; a bare number is none.
        for piece in re.split(r"[,;|\t]|\"+", cell):
            assert not re.match(r"\s*[=+@\uff1d\uff0b\uff0d\uff20]|\s*-(?!\d+(\.\d+)?(e[+-]?\d+)?[\]}]*\Z)", piece), (
                piece
            )
    texts = {name: read_cell(row[name]) for name in ("plugin_id", "user_id", "trace_id")}
    return {**texts, "details": json.loads(row["details"]), "replay": json.loads(row["replay"])}


def by_parquet(data: bytes) -> dict[str, Any]:
    row = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()[0]
    return {**row, "details": json.loads(row["details"]), "replay": json.loads(row["replay"])}


def by_ocsf(data: bytes) -> dict[str, Any]:
    event = json.loads(data.splitlines()[0])
    return {
        "plugin_id": event["actor"]["app_name"],
        "user_id": event["actor"]["user"]["name"],
        "trace_id": event["metadata"]["correlation_uid"],
        **event["unmapped"],
    }


def by_opa(data: bytes) -> dict[str, Any]:
    line = json.loads(data.split(b"\n")[0])
    return {
        "plugin_id": line["input"]["plugin"],
        "user_id": line["requested_by"],
        "trace_id": line["trace_id"],
        "details": line["input"]["details"],
    }


def by_cloudevents(data: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(data.split(b"\n")[0])
    return event["data"]


def by_jsonl(data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(data.split(b"\n")[0])
    return row


def by_syslog(data: bytes) -> dict[str, Any]:
    (line,) = data.decode().removesuffix("\n").split("\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
    found = SYSLOG.match(line)
    assert found, line
    unescaped = {name: re.sub(r"\\([\"\\\]])", r"\1", value) for name, value in PARAM.findall(found[7])}
    params = {name: read_controls(value) for name, value in unescaped.items()}
    return {
        "plugin_id": params["plugin"],
        "user_id": params["user"],
        "trace_id": params["traceId"],
        "details": json.loads(params["details"]),
    }


def by_cef(data: bytes) -> dict[str, Any]:
    (line,) = data.decode().removesuffix("\n").split("\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
    rest = line
    for _ in range(7):
        head = CEF_HEAD.match(rest)
        assert head, line
        rest = rest[head.end() :]
    pairs = dict(CEF_PAIR.findall(rest))
    escapes = {"n": "\n", "r": "\r"}
    pairs = {
        name: read_controls(re.sub(r"\\([=\\nr])", lambda each: escapes.get(each[1], each[1]), value))
        for name, value in pairs.items()
    }
    return {
        "plugin_id": pairs["sproc"],
        "user_id": pairs["suser"],
        "trace_id": pairs["cs6"],
        "details": json.loads(pairs["cs5"]),
    }


READERS = {
    "jsonl": by_jsonl,
    "csv": by_csv,
    "parquet": by_parquet,
    "ocsf": by_ocsf,
    "opa": by_opa,
    "cloudevents": by_cloudevents,
    "syslog": by_syslog,
    "cef": by_cef,
}


@pytest.mark.parametrize("form", sorted(READERS))
def test_what_was_recorded_is_read_back(form: str, hostile: tuple[Any, Record], export: Callable[..., Any]) -> None:
    value, made = hostile
    data, _ = export(form, made)
    read = READERS[form](data)
    wanted = as_recorded(value)
    text = wanted if isinstance(value, str) else "plain"
    assert [read[name] for name in ("plugin_id", "user_id", "trace_id")] == [text] * 3
    assert read["details"]["public"] == wanted
    assert read["details"]["private"] == wanted
    if "replay" in read:
        assert read["replay"]["args"] == wanted
