"""The schema for editors: it describes every member, and takes whatever the gateway takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.errors import MalformedError
from gateway.registry.manifest import parse_manifest
from gateway.registry.manifest_schema import manifest_schema

ROOT = Path(__file__).parents[2]
SAMPLES = [*(ROOT / "tests/testdata/manifests").glob("*.json"), *(ROOT / "plugins").glob("*/manifest.json")]
SCHEMA = manifest_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EVENINGS = {"days": ["Mon"], "from": "19:00", "to": "01:00"}
READS_A = {"permission": "vault_read", "scope": "a"}
SOME_OF_EACH: dict[str, list[Any]] = {
    "plugin_id": ["ab", "notes-2", "a" * 64, "A", "a--b", "gateway"],
    "version": ["0.0.1", "1.0.0-rc.1+b", "1.0", "1.0.0-01"],
    "manifest_version": ["2.0.0", "2.0"],
    "requested_permissions": [
        [],
        [{"permission": "vault_read", "level": None, "scope": None}],
        [{"permission": "network_read", "scope": "*.example.com", "conditions": {"rate_limit": {"max": 3, "per": 1}}}],
        [{"permission": "plugin_execute", "scope": "weather"}],
        [{"permission": "user_read", "scope": "x", "conditions": {"time_restriction": EVENINGS}}],
        [{**READS_A, "conditions": {"valid_until": "2026-12-31T00:00:00Z", "user_consent": True}}],
        [{"permission": "vault_execute", "scope": "x"}],
    ],
    "capabilities": [
        [],
        [{"name": "a", "parameters": {"X_1": "array"}, "return_type": "null", "batch_support": True}],
        [{"name": "a", "requires": [READS_A], "idempotent": True, "version": "1.0.0"}],
        [{"name": "a", "parameters": {"b c": "string"}}],
        [{"name": "a", "return_type": "list"}],
        [{"name": "a", "return_type": {"type": "array"}, "parameters": {"n": {"type": "integer", "maximum": 9}}}],
        [{"name": "a", "return_type": {"$ref": "#"}}],
        [{"name": "a", "parameters": {"type": "object", "properties": {"n": "integer"}, "required": ["n"]}}],
        [{"name": "a", "parameters": {"type": "object", "properties": {"n": "whole"}}}],
        [{"name": "a", "parameters": {"type": "object", "properties": {}, "minProperties": 1}}],
        [{"name": "a", "parameters": {"type": "object"}}],
    ],
    "lifecycle_hooks": [{}, {"revoked": "on_revoked"}, {"revoked": "a b"}, {"born": "f"}],
    "sandbox": [True, False, 1],
    "sandbox_config": [
        {},
        {"timeout": 1, "memory_limit": 16, "watch_paths": ["src"]},
        {"timeout": 0.5, "max_cpu_percent": None},
        {"reload_timeout": 301},
    ],
    "resource_limits": [{}, {"max_memory_usage": 512, "max_cpu_percent": 50.5}, {"max_execution_time": 0}],
    "risk_tier": ["low", None, "none"],
    "entry_point": ["main.py", "x.sh"],
    "depends_on": [{}, {"weather": "^1.0.0"}, {"Weather": "*"}],
    "isolation": ["fork", None, "none"],
    "self_test": ["check", None, "a.b"],
    "requirements": ["requirements.lock", None],
    "$schema": ["urn:x", None],
    "more": [1],
}  # fmt: skip


@pytest.mark.parametrize("path", SAMPLES, ids=[str(each.relative_to(ROOT)) for each in SAMPLES])
def test_it_takes_every_manifest_of_the_project(path: Path) -> None:
    raw = json.loads(path.read_text())
    parse_manifest(raw)
    VALIDATOR.validate(raw)


def test_it_is_a_schema_and_describes_every_member() -> None:
    VALIDATOR.check_schema(SCHEMA)
    silent = [name for name, each in _members(SCHEMA) if "description" not in each]
    assert silent == []


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(each) for name, each in SOME_OF_EACH.items()}))
def test_what_the_gateway_takes_it_takes(members: dict[str, Any]) -> None:
    raw = {"plugin_id": "tested", "name": "Tested", "version": "1.0.0", **members}
    try:
        parse_manifest(raw)
    except MalformedError:
        assume(False)  # noqa: FBT003 (hypothesis takes it so)
    VALIDATOR.validate(raw)


@given(st.sampled_from(sorted(SOME_OF_EACH)), st.data())
def test_what_it_refuses_the_gateway_refuses(member: str, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(SOME_OF_EACH[member]))
    raw = {"plugin_id": "tested", "name": "Tested", "version": "1.0.0", member: value}
    if not VALIDATOR.is_valid(raw):
        with pytest.raises(MalformedError):
            parse_manifest(raw)


def _members(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, part in {"": schema, **schema["$defs"]}.items():
        for name, each in part.get("properties", {}).items():
            yield f"{title}.{name}", each
