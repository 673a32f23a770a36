"""What docs/mcp-servers.md shows is so."""

import json
import re
import tomllib
from pathlib import Path

from gateway.config import Settings
from gateway.registry.manifest import parse_manifest
from gateway.registry.server_tools import wanted_files
from sandbox.stdio import _ENVIRONMENT
from tests.flows.test_mcp_servers import MAPPED

PAGE = (Path(__file__).parent.parent / "docs" / "mcp-servers.md").read_text()


def shown(name: str) -> str:
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_its_settings_are_settings() -> None:
    assert Settings.model_validate(tomllib.loads(shown("hearthgate.toml"))).sandbox.programs == {
        "node": "/usr/bin/node"
    }


def test_its_first_manifest_lacks_nothing_but_tools() -> None:
    first = json.loads(shown("manifest.json"))
    assert wanted_files(first) == ("/srv/notes",)
    manifest = parse_manifest({**first, "capabilities": [MAPPED]})
    assert (manifest.command[0], manifest.warnings) == ("node", ())


def test_its_line_of_the_policy_is_that_of_a_new_home() -> None:
    policy = (Path(__file__).parent.parent / "policies" / "risk.toml").read_text()
    assert tomllib.loads(shown("risk.toml"))["isolation"].items() <= tomllib.loads(policy)["isolation"].items()


def test_its_environment_is_what_a_server_gets() -> None:
    named = {name for name in _ENVIRONMENT if f"`{name}`" in PAGE}
    assert set(_ENVIRONMENT) - named == {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
