"""Tools as a server tells of them, honest or not, become a manifest that is taken; or it is said what is wrong."""

from typing import Any

import pytest

from gateway.errors import MalformedError
from gateway.registry.manifest import parse_manifest
from gateway.registry.server_tools import with_tools

MANIFEST: dict[str, Any] = {
    "plugin_id": "server",
    "name": "Server",
    "version": "1.0.0",
    "runtime": "mcp-stdio",
    "command": ["python", "server.py"],
}


def mapped(*tools: dict[str, Any], **manifest: object) -> list[dict[str, Any]]:
    """Map all tools, and give the capabilities of a manifest that was taken."""
    whole = with_tools({**MANIFEST, **manifest}, tools, [str(each["name"]) for each in tools])
    parse_manifest(whole)
    found: list[dict[str, Any]] = whole["capabilities"]
    return found


ODD: list[dict[str, Any]] = [
    {"required": [["x"], {}, 1], "properties": {"x": {}}},
    {"required": "x", "properties": []},
    {"properties": {"x": {"type": ["string", ["a"]]}}},
    {"properties": {"x": {"type": {"a": 1}}}},
    {"properties": {"x": {"required": "no"}}},
    {"properties": {"x": {"type": "string", "pattern": "(a{1000}){1000}"}}},
    {"properties": {"x": {"enum": list(range(100_000))}}},
    {"properties": {"x": {"const": 10**400}}},
    {"properties": {"x": {"multipleOf": 0}}},
    {"properties": {"x": {"anyOf": "x"}}},
    {"properties": {"x": {"properties": [1]}}},
    {"properties": {"x": {"items": [1, 2]}}},
    {"properties": {"x": {"$ref": "#/$defs/x"}}},
    {"properties": {"x": False}},
    {"properties": {"type": {"type": "string"}, "properties": {"type": "object"}}, "required": ["type"]},
    {"properties": {"ctx": {"type": "string"}}, "required": ["ctx"]},
    {"properties": {"../x": {"type": "string"}}},
]


@pytest.mark.parametrize("schema", ODD, ids=range(len(ODD)))
def test_no_schema_of_a_server_makes_a_manifest_that_is_refused(schema: dict[str, Any]) -> None:
    (capability,) = mapped({"name": "do", "inputSchema": schema})
    assert capability["parameters"]["type"] == "object"


def test_a_parameter_that_no_payload_can_hold_is_told_where_it_is_needed() -> None:
    needs = {"name": "do", "inputSchema": {"properties": {"action": {}}, "required": ["action"]}}
    with pytest.raises(MalformedError, match="`do` needs a parameter `action`"):
        mapped(needs)


def test_more_words_than_a_manifest_holds_are_cut_visibly() -> None:
    (capability,) = mapped({"name": "do", "description": "x" * 5000})
    assert capability["description"].endswith("x [...]")
    assert len(capability["description"]) == 2000


def test_each_tool_gets_a_capability_of_its_own() -> None:
    names = ["a-b", "a_b", "a.b", "\u30d5", "\u30e1", "1st", "", "A\nb\x1b[31m"]
    found = mapped(*({"name": each} for each in names))
    assert [each["name"] for each in found] == [
        "a_b",
        "a_b_2",
        "a_b_3",
        "tool",
        "tool_2",
        "tool_1st",
        "tool_3",
        "a_b_31m",
    ]
    assert [each.get("tool", each["name"]) for each in found] == names


def test_a_capability_that_is_there_keeps_its_name_and_what_it_requires() -> None:
    requires = [{"permission": "vault_read", "scope": "notes"}]
    own = {"name": "do", "tool": "other", "definition": "sha256:" + "0" * 64, "requires": requires}
    found = mapped({"name": "do"}, {"name": "other", "description": "Others."}, capabilities=[own])
    assert [(each["name"], each.get("tool")) for each in found] == [("do", "other"), ("do_2", "do")]
    assert (found[0]["requires"], found[0]["description"]) == (requires, "Others.")
