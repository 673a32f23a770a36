"""Manifests: both published samples are taken as they are, and every mistake is named with its place, all at once."""

import contextlib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.permission import FAMILIES, Kind
from gateway.errors import MalformedError
from gateway.registry.folder import MAX_MANIFEST_BYTES, parse_json_strictly, read_plugin_folder
from gateway.registry.manifest import parse_manifest
from gateway.registry.manifest_conditions import manifest_scope
from gateway.registry.manifest_schema import manifest_schema

if TYPE_CHECKING:
    from tests.conftest import Home

DATA = Path(__file__).parents[1] / "testdata" / "manifests"
FAULTS: list[dict[str, Any]] = tomllib.loads((DATA / "faults.toml").read_text())["fault"]
GOOD = {"plugin_id": "tested", "name": "Tested", "version": "1.0.0"}


@pytest.mark.parametrize("name", ["full.json", "minimal.json"])
def test_the_published_samples_register_unchanged(home: "Home", name: str) -> None:
    answer = home.owner.ask(
        "POST", "/v1/plugins", content=(DATA / name).read_bytes(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 201, answer.text
    plugin_id = answer.json()["plugin_id"]
    assert home.owner.get(f"/v1/plugins/{plugin_id}/manifest").json() == json.loads((DATA / name).read_text())
    home.reopen()
    assert home.state(plugin_id) == "registered"
    assert home.owner.post(f"/v1/plugins/{plugin_id}/approve", {"reason": ""}).status_code == 200


def test_the_full_samples_conditions_become_terms() -> None:
    manifest = parse_manifest(json.loads((DATA / "full.json").read_text()))
    assert [(str(each.permission), each.scope, each.condition) for each in manifest.permissions] == [
        ("vault_read", "user_data/*", "business_hours; consent"),
        ("network_read", "api.example.com", "rate(100/60s)"),
    ]
    assert (manifest.limits.timeout_s, manifest.limits.memory_mb, manifest.limits.cpu_percent) == (300, 512, 50)


def test_the_small_sample_asks_for_nothing_that_can_be_granted() -> None:
    (asked,) = parse_manifest(json.loads((DATA / "minimal.json").read_text())).permissions
    assert asked.scope is None


@pytest.mark.parametrize("fault", FAULTS, ids=[each["name"] for each in FAULTS])
def test_a_mistake_is_named_with_its_place(fault: dict[str, Any]) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_manifest({**GOOD, **json.loads(fault["with"], strict=False)})
    told = [str(each) for each in caught.value.problems]
    for words in fault["want"]:
        assert any(each.startswith(f"manifest.json: {words}") or words in each for each in told), told


MANY: dict[str, tuple[dict[str, Any], str]] = {
    "parameters": ({"parameters": {f"p{each}": {"pattern": "^a"} for each in range(1001)}}, "1000 JSON Schemas"),
    "requires": ({"requires": [{"permission": "vault_read", "scope": f"a/{each}"} for each in range(51)]}, "50"),
}


@pytest.mark.parametrize("member", MANY)
def test_what_each_call_or_its_reading_would_pay_for_is_bounded(member: str) -> None:
    more, told = MANY[member]
    with pytest.raises(MalformedError) as caught:
        parse_manifest({**GOOD, "capabilities": [{"name": "look", **more}]})
    (problem,) = caught.value.problems
    assert f"capabilities[0].{member}" in str(problem)
    assert told in str(problem)


def test_a_large_manifest_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({**GOOD, "description": "x" * MAX_MANIFEST_BYTES}))
    with pytest.raises(MalformedError, match="more than 1 MiB"):
        read_plugin_folder(folder)


def test_all_mistakes_are_named_at_once() -> None:
    raw = {**GOOD, "plugin_id": "Bad", "version": "x", "entry_point": "/x", "lifecycle_hooks": {"revoked": "a b"}}
    with pytest.raises(MalformedError) as caught:
        parse_manifest(raw)  # type: ignore[arg-type] # JSON
    assert len(caught.value.problems) == 4


def test_mistakes_of_shape_hide_none_of_meaning() -> None:
    raw = {
        "plugin_id": "bad--id",
        "version": 1,
        "requested_permission": [],
        "requested_permissions": [
            {"permission": "vault_read", "level": "write", "scope": "a"},
            {"permission": "vault_fly", "scope": "a"},
            {"level": "read", "scope": "a"},
            {"permission": "core_read", "scope": "../x", "conditions": {"moon": "full", "rate_limit": 0}},
        ],
        "capabilities": [{"name": "f"}, {"description": "no name"}, {"name": "f", "parameters": {"x": "strin"}}],
        "lifecycle_hooks": {"born": "x", "approved": "a b"},
        "sandbox_config": {"timeout": -1, "network_access": ["a.example"], "watch_paths": ["../x"]},
        "depends_on": {"x": "no range"},
    }
    with pytest.raises(MalformedError) as caught:
        parse_manifest(raw)  # type: ignore[arg-type] # JSON
    told = [str(each).removeprefix("manifest.json: ") for each in caught.value.problems]
    assert sorted({each.partition(": ")[0] for each in told}) == sorted(
        [
            "capabilities[1].name",
            "capabilities[2].name",
            "capabilities[2].parameters.x",
            "depends_on.x",
            "lifecycle_hooks.approved",
            "lifecycle_hooks.born",
            "name",
            "plugin_id",
            "requested_permission",
            "requested_permissions[0].level",
            "requested_permissions[1].permission",
            "requested_permissions[2].permission",
            "requested_permissions[3].conditions.moon",
            "requested_permissions[3].conditions.rate_limit",
            "requested_permissions[3]",
            "sandbox_config.timeout",
            "sandbox_config.watch_paths[0]",
            "version",
        ]
    )
    assert "requested_permission: is no member that is known here: did you mean `requested_permissions`?" in told


@pytest.mark.parametrize("wrong", [{"permission": "network_reed"}, {"permission": 1}, {}, "network_read"])
def test_what_a_permission_might_have_covered_is_not_blamed(wrong: object) -> None:
    asked = [{"permission": "vault_read", "scope": "a"}, wrong]
    raw = {
        "requested_permissions": asked,
        "sandbox_config": {"network_access": ["a.example"], "system_commands": ["ls"]},
    }
    with pytest.raises(MalformedError) as caught:
        parse_manifest({**GOOD, **raw})  # type: ignore[dict-item] # JSON
    assert all("requested_permissions[1]" in str(each) for each in caught.value.problems)


def test_all_mistakes_are_told_of_a_manifest_whose_id_is_none(quiet_home: "Home") -> None:
    answer = quiet_home.owner.post("/v1/plugins", {"plugin_id": "no--id", "name": 1, "version": "x"})
    assert answer.status_code == 400
    places = [each["message"].partition(":")[0] for each in answer.json()["problems"]]
    assert sorted(places) == ["name", "plugin_id", "version"]


@pytest.mark.parametrize("raw", [None, [], "x", 7, True])
def test_a_manifest_is_an_object(raw: Any) -> None:  # noqa: ANN401 (JSON)
    with pytest.raises(MalformedError):
        parse_manifest(raw)


@pytest.mark.parametrize(
    ("kind", "text", "scope"),
    [
        (Kind.VAULT, "user_data", "user_data/*"),
        (Kind.VAULT, "a/b/", "a/b/*"),
        (Kind.VAULT, "a/*", "a/*"),
        (Kind.VAULT, "*", "*"),
        (Kind.FILE, "/srv/x", "/srv/x/*"),
        (Kind.FILE, "/", "/*"),
        (Kind.NETWORK, "Example.COM.", "example.com"),
        (Kind.NETWORK, "example.com:443", "example.com"),
        (Kind.NETWORK, "*.example.com", "*.example.com"),
        (Kind.PLUGIN, "weather", "weather/*"),
        (Kind.API, "mail/inbox", "mail/inbox"),
    ],
)
def test_what_a_manifest_names_means_all_below(kind: Kind, text: str, scope: str) -> None:
    assert manifest_scope(kind, text) == scope


@pytest.mark.parametrize(
    "spelt", ["2026-12-31T00:00:00Z", "2026-12-31T01:00:00+01:00", "20261231T000000Z", "2026-W53-4T00:00:00Z"]
)
def test_an_end_is_spelt_as_the_rules_read_it(spelt: str) -> None:
    asked = {"permission": "vault_read", "scope": "a", "conditions": {"valid_until": spelt}}
    (permission,) = parse_manifest({**GOOD, "requested_permissions": [asked]}).permissions  # type: ignore[dict-item,list-item] # JSON
    assert permission.condition == "until(2026-12-31T00:00:00Z)"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(manifest_schema()["properties"])),
)
def test_no_json_makes_the_reader_stumble(value: Any, member: str) -> None:  # noqa: ANN401 (JSON)
    with contextlib.suppress(MalformedError):
        parse_manifest({**GOOD, member: value})


@given(st.sampled_from(FAMILIES), st.text(max_size=30))
def test_a_scope_read_once_reads_the_same_again(kind: Kind, text: str) -> None:
    try:
        scope = manifest_scope(kind, text)
    except MalformedError:
        return
    assert manifest_scope(kind, scope) == scope


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b'"\\ud800"',
        b"\xff",
        b"[" * 10_000,
    ],
)
def test_json_that_two_readers_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError, match=r"`x\.json` is not JSON"):
        parse_json_strictly(raw, "x.json")


@given(st.dictionaries(st.text(), st.none() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.booleans())))
def test_json_of_one_reading_is_read(value: dict[str, object]) -> None:
    assert parse_json_strictly(json.dumps(value).encode(), "x") == value


def test_the_schema_for_editors_takes_the_samples_members() -> None:
    schema = manifest_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["additionalProperties"] is False
    assert set(json.loads((DATA / "full.json").read_text())) <= set(schema["properties"])


@given(*[st.none() | st.integers(16, 900)] * 3)
def test_of_three_spellings_of_a_limit_the_least_holds(one: int | None, two: int | None, three: int | None) -> None:
    seconds = {"timeout": one, "max_execution_time": two}
    memory = {"memory_limit": three, "max_memory_mb": one}
    limits = {"max_execution_time": three, "max_memory_usage": two}
    read = parse_manifest({**GOOD, "sandbox_config": {**seconds, **memory}, "resource_limits": limits})  # type: ignore[dict-item] # JSON
    least = min((each for each in (one, two, three) if each is not None), default=None)
    assert (read.limits.timeout_s, read.limits.memory_mb) == (least, least)
    assert bool(read.warnings) is (len({one, two, three} - {None}) > 1)


def test_what_may_not_mean_what_its_author_thinks_is_told_with_its_place() -> None:
    raw = {
        "requested_permissions": [{"permission": "vault_read"}, {"permission": "file_read", "scope": "/srv/a"}],
        "optional_permissions": [{"permission": "core_read"}],
        "sandbox_config": {"file_access": ["/srv/a/b", "/srv/c"], "timeout": 5, "max_execution_time": 9},
        "auto_approve": True,
    }
    told = [str(each).removeprefix("manifest.json: warning: ") for each in parse_manifest({**GOOD, **raw}).warnings]  # type: ignore[dict-item] # JSON
    assert told == [
        "sandbox_config.timeout: 5 holds, for it is the least; `sandbox_config.max_execution_time` says 9",
        "requested_permissions[0]: `vault_read` names no scope, so it grants nothing",
        "optional_permissions[0]: `core_read` names no scope, so it grants nothing",
        "sandbox_config.file_access[1]: `/srv/c` is not mounted: no file permission covers it",
        "auto_approve: never believed: people approve",
    ]
