"""Exports as they leave: their headers, their manifest, what they must never hold."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.audit.formats.known import FORMATS
from gateway.audit.verify import verify_file
from gateway.audit.verify_manifest import read_manifest, verify_by_manifest
from gateway.client import Client
from gateway.client.export import manifest_of, save_export
from gateway.errors import ConfigError, ConflictError, VerificationError

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

WEBHOOK = """\
[[log.sink]]
name = "siem"
kind = "webhook"
url = "https://siem.example/hooks/canary-in-the-path"
key_file = "{key}"
"""


def test_an_export_names_its_manifest_and_its_length(home: "Home") -> None:
    answer = home.owner.get("/v1/audit/export", format="csv", event_type="policy_activated")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == int(answer.headers["hearthgate-rows"]) == 1
    path = answer.headers["link"].split(">")[0].removeprefix("<")
    manifest = home.owner.get(path).json()
    assert (manifest["format"], manifest["rows"], manifest["filters"]) == (
        "csv",
        1,
        {"event_type": "policy_activated"},
    )
    exported = home.records(event_type="exported")
    assert [row["details"]["format"] for row in exported] == ["csv", "csv"]
    assert exported[1]["ref"] == exported[0]["event_id"] == manifest["export"]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_client_that_takes_a_coding_gets_it(home: "Home", coding: str) -> None:
    headers = {"accept-encoding": coding}
    answer = home.owner.ask("GET", "/v1/audit/export", params={"format": "jsonl"}, headers=headers)
    assert answer.headers["content-encoding"] == coding
    assert json.loads(answer.text.splitlines()[-1])["event_type"] == "exported"


def test_a_compressed_file_is_no_content_coding(home: "Home") -> None:
    answer = home.owner.get("/v1/audit/export", format="jsonl", compress="gzip")
    assert "content-encoding" not in answer.headers
    assert gzip.decompress(answer.content).count(b"\n") == int(answer.headers["hearthgate-rows"]) + 1


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"format": "xml"}, "one of jsonl, csv"),
        ({"compress": "rar"}, "one of gzip, zstd"),
        ({"redact": "plugin_id"}, "`plugin_id` cannot be redacted"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_is_recorded(
    home: "Home", params: dict[str, str], word: str
) -> None:
    answer = home.owner.get("/v1/audit/export", **params)
    assert answer.status_code == 400
    assert word in answer.text
    assert home.records(event_type="exported") == []


def test_a_manifest_of_nothing_is_not_found(home: "Home") -> None:
    answer = home.owner.get("/v1/audit/exports/audit-01a2054b-d797-71d5-9222-cc143afba28d/manifest")
    assert answer.status_code == 404


def test_no_secret_is_in_any_export_record_or_answer(make_home: "MakeHome", tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("canary-of-the-webhook-key")
    key.chmod(0o600)
    home = make_home(settings=WEBHOOK.format(key=key))
    alice = home.person("alice", "evaluate")
    token = alice._headers["authorization"].removeprefix("Bearer ")
    canaries = [token, token.rpartition("_")[2], "canary"]
    alice.post(
        "/v1/decisions",
        {"subject": "user:alice", "permission": "vault_read", "scope": "notes/a", "context": {}, "args": {}},
    )
    wrong = home.stranger.ask("GET", "/v1/audit", headers={"authorization": f"Bearer {token}x-canary"})
    assert wrong.status_code == 401
    answers = [home.owner.get("/v1/audit/export", format=form).content for form in FORMATS if form != "parquet"]
    answers += [wrong.content, home.owner.get("/v1/audit/sinks").content, home.owner.get("/v1/audit").content]
    parquet = home.owner.get("/v1/audit/export", format="parquet").content
    import pyarrow.parquet

    answers.append(str(pyarrow.parquet.read_table(io.BytesIO(parquet)).to_pylist()).encode())
    for answer in answers:
        assert not [canary for canary in canaries if canary.encode() in answer]
    assert home.owner.get("/v1/audit/sinks").json()["sinks"][0]["target"] == "https://siem.example"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ('kind = "webhook"\nurl = "http://siem.example/"\nkey_env = "K"', "https"),
        ('kind = "webhook"\nurl = "https://u:canary@siem.example/"\nkey_env = "K"', "without a user name"),
        ('kind = "webhook"\nurl = "https://siem.example/"', "key_file"),
        ('kind = "webhook"\nurl = "https://siem.example/"\nkey_env = "K"\nformat = "parquet"', "no format of messages"),
        ('kind = "syslog"\naddress = "http://x:1"', "address"),
        ('kind = "file"\npath = "{home}/data/out"', "lies in the home"),
        ('kind = "pigeon"', "pigeon"),
    ],
)
def test_a_sink_that_cannot_be_is_a_settings_error(make_home: "MakeHome", settings: str, word: str) -> None:
    home = make_home(opened=False)
    text = f'[[log.sink]]\nname = "one"\n{settings}\n'.replace("{home}", str(home.folder))
    (home.folder / "hearthgate.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        home.open()
    assert word in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.fixture
def saved(make_home: "MakeHome", tmp_path: Path) -> Any:  # noqa: ANN401 # a function
    """Give a function that saves an export of a home through the client, and the log's key."""
    folder = make_home(opened=False).folder

    def save(name: str, *, force: bool = False, **params: object) -> tuple[Path, str]:
        file = tmp_path / name
        with Client(folder) as client:
            save_export(client, file, params, force=force)
        return file, (folder / "data" / "keys" / "log.pub").read_text()

    return save


@pytest.mark.parametrize("form", ["csv", "ocsf", "parquet"])
def test_a_manifest_proves_a_file_with_the_logs_key_alone(saved: Any, form: str) -> None:  # noqa: ANN401 # see above
    file, key = saved("out", format=form, compress="zstd")
    result = verify_by_manifest(file, read_manifest(manifest_of(file)), key=key)
    assert result.findings == []
    assert result.signer_checked
    assert any("does not prove row by row" in each for each in result.notes)
    assert file.stat().st_mode & 0o777 == manifest_of(file).stat().st_mode & 0o777 == 0o600


def test_json_lines_prove_themselves_and_have_a_manifest_too(saved: Any) -> None:  # noqa: ANN401 # see above
    file, key = saved("out.jsonl", format="jsonl")
    assert verify_file(file, key=key).findings == []
    assert verify_by_manifest(file, read_manifest(manifest_of(file)), key=key).findings == []


def _flip(file: Path, _: dict[str, Any]) -> None:
    file.write_bytes(file.read_bytes().replace(b"policy_activated", b"policy_deactivated", 1))


def _recount(_: Path, manifest: dict[str, Any]) -> None:
    manifest["rows"] += 1


def _forge(file: Path, manifest: dict[str, Any]) -> None:
    import hashlib

    file.write_bytes(b"forged")
    manifest["sha256"], manifest["bytes"] = hashlib.sha256(b"forged").hexdigest(), 6


def _forge_record(file: Path, manifest: dict[str, Any]) -> None:
    old = manifest["sha256"]
    _forge(file, manifest)
    manifest["record"] = manifest["record"].replace(old, manifest["sha256"])


def _resize(_: Path, manifest: dict[str, Any]) -> None:
    size = manifest["size"]
    manifest["checkpoint"] = manifest["checkpoint"].replace(f"\n{size}\n", f"\n{size + 1}\n", 1)


def _unprove(_: Path, manifest: dict[str, Any]) -> None:
    manifest["proof"] = manifest["proof"][1:]


@pytest.mark.parametrize("harm", [_flip, _recount, _forge, _forge_record, _resize, _unprove])
def test_harm_to_file_or_manifest_is_found(saved: Any, harm: Any) -> None:  # noqa: ANN401 # functions
    file, key = saved("out.csv", format="csv")
    manifest = read_manifest(manifest_of(file))
    harm(file, manifest)
    assert verify_by_manifest(file, manifest, key=key).findings


def test_another_logs_key_did_not_sign(saved: Any) -> None:  # noqa: ANN401 # see above
    from gateway.audit.checkpoint import LogKey

    file, _ = saved("out.csv", format="csv")
    manifest = read_manifest(manifest_of(file))
    result = verify_by_manifest(file, manifest, key=str(LogKey(manifest["log"], bytes(32)).verifier))
    assert [each.message for each in result.findings] == ["the manifest's checkpoint is not signed by the key given"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest":"hearthgate.export/9"}', '{"a":1,"a":1}', "[" * 100_000])
def test_what_is_no_manifest_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text)
    with pytest.raises(VerificationError):
        read_manifest(tmp_path / "m")


def test_a_file_is_never_written_over_without_being_told(saved: Any, tmp_path: Path) -> None:  # noqa: ANN401 # see above
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConflictError):
        saved("out", format="csv")
    assert (tmp_path / "out").read_text() == "mine"
    file, _ = saved("out", format="csv", force=True)
    assert file.read_text().startswith("seq,")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))) == [
        "out",
        "out.manifest.json",
    ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/audit/export", {"format": "csv"}),
        ("/v1/audit/export", {"format": "cef"}),
        ("/v1/audit/export", {"format": "syslog"}),
        ("/v1/audit/report", {"format": "html"}),
        ("/v1/audit/checkpoint", {}),
        ("/v1/traffic/export", {"format": "csv"}),
        ("/metrics", {}),
    ],
)
def test_a_text_tells_its_encoding_once(quiet_home: "Home", path: str, asked: dict[str, str]) -> None:
    answer = quiet_home.owner.get(path, **asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/")
    assert answer.headers["content-type"].count("charset=utf-8") == 1
