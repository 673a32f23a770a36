"""What is written: filtered, redacted, compressed, counted, and proven by a manifest."""

import asyncio
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import zstandard

from gateway.audit.formats import parquet
from gateway.audit.formats.compressed import accepted
from gateway.audit.formats.known import FORMATS
from gateway.audit.formats.redaction import FIELDS, parse_redaction
from gateway.audit.log import DecisionLog
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from gateway.errors import MalformedError, UnavailableError


def rows_of(form: str, data: bytes) -> int:
    if form == "parquet":
        return int(pyarrow.parquet.read_table(io.BytesIO(data)).num_rows)
    return data.count(b"\n") - (form in {"csv", "jsonl"})


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_format_holds_what_the_filter_wants(
    form: str, decided: Callable[..., Record], export: Callable[..., Any]
) -> None:
    records = [decided(user=user) for user in ("alice", "bob", "alice")]
    data, written = export(form, *records, wanted=Filter(user="alice"))
    tally = written.tally
    assert rows_of(form, data) == tally.rows == written.export.rows == 2
    assert (tally.first_seq, tally.last_seq, tally.policy_versions) == (1, 3, {"sha256:00"})
    assert tally.size == len(data)
    assert b"bob" not in data


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_format_leaves_out_what_is_redacted(
    form: str, decided: Callable[..., Record], export: Callable[..., Any]
) -> None:
    data, _ = export(form, decided(user="alice"), redacted=frozenset(FIELDS))
    text = data if form != "parquet" else str(pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()).encode()
    assert b"alice" not in text
    assert b"user_data/diary" not in text
    assert (b"[redacted" in text) == (form != "jsonl")


@pytest.mark.parametrize("fields", ["user_id", "scope", "replay,details", "all"])
def test_redacted_json_lines_still_verify_and_say_what_they_lack(
    fields: str, tmp_path: Path, decided: Callable[..., Record], export: Callable[..., Any]
) -> None:
    data, _ = export("jsonl", decided(), decided(user="bob"), redacted=parse_redaction(fields))
    file = tmp_path / "log.jsonl"
    file.write_bytes(data)
    result = verify_file(file)
    assert result.findings == []
    assert any("2 lines lack personal values" in note for note in result.notes)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(None, set()), ("", set()), ("user_id, scope", {"user_id", "scope"}), ("all", set(FIELDS))],
)
def test_redaction_is_a_list_of_fields(text: str | None, wanted: set[str]) -> None:
    assert parse_redaction(text) == wanted


def test_what_cannot_be_redacted_is_named() -> None:
    with pytest.raises(MalformedError, match="`plugin_id`, `seq` cannot be redacted"):
        parse_redaction("user_id,plugin_id,seq")


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_compressed_is_the_same_compressed(
    compress: str, form: str, record: Callable[..., Record], export: Callable[..., Any]
) -> None:
    data, written = export(form, record(plugin_id="notes"), compress=compress)
    out = gzip.decompress(data) if compress == "gzip" else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert rows_of(form, out) == 1
    assert written.tally.size == len(data)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("br, GZIP", "gzip"),
    ],
)
def test_a_content_coding_is_one_that_is_accepted(header: str | None, chosen: str | None) -> None:
    assert accepted(header) == chosen


def test_parquet_comes_in_row_groups_of_bounded_size(
    record: Callable[..., Record], export: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    data, _ = export("parquet", *(record() for _ in range(5)))
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [2, 2, 1]
    assert str(file.schema_arrow.field("timestamp").type) == "timestamp[us, tz=UTC]"


def test_an_empty_parquet_file_is_a_parquet_file(export: Callable[..., Any]) -> None:
    data, written = export("parquet", wanted=Filter(plugin="nobody"))
    assert (rows_of("parquet", data), written.tally.rows) == (0, 0)


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnavailableError, match=r"hearthgate\[parquet\]"):
        parquet.ParquetTable()


def test_erased_values_are_marked_as_erased(
    folder: Path, decided: Callable[..., Record], export: Callable[..., Any], open_log: Callable[[], DecisionLog]
) -> None:
    import sqlite3

    async def append() -> None:
        log = open_log()
        await log.append(decided())
        await log.close()

    asyncio.run(append())
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("DELETE FROM pii")
    connection.commit()
    connection.close()
    data, _ = export("opa")
    line = json.loads(data.split(b"\n")[0])
    assert line["erased"] == ["/input/scope", "/input/user", "/input/facts", "/requested_by"]
    assert line["input"]["scope"] == line["requested_by"] == "[erased]"
    assert "masked" not in line
