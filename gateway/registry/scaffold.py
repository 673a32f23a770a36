"""A new plugin's folder: a manifest, code, a schema for the editor and a test that passes."""

import json
from collections.abc import Mapping

from gateway.domain.names import PluginId
from gateway.registry.manifest_schema import manifest_schema

SCHEMA_NAME = "manifest.schema.json"
_CODE = '''"""{name}: says hello, and remembers to whom.

`ctx` is all that a plugin has: each of its calls is decided, recorded and only then done, on behalf of the call's user.
"""


def greet(ctx, name):
    """Say hello to somebody, and count how often."""
    place = "{plugin_id}/" + name
    times = 1 + (ctx.vault.read(place) if place in ctx.vault.list("{plugin_id}") else 0)
    ctx.vault.write(place, times)
    return {{"text": f"Hello, {{name}}!", "times": times}}
'''
_TEST = '''"""Run it with `python -m unittest`, in this folder."""

import unittest
from types import SimpleNamespace

import main


class Vault(dict):
    """A vault in memory, for tests."""

    def list(self, scope):
        return [name for name in self if name.startswith(scope)]

    def read(self, scope):
        return self[scope]

    def write(self, scope, value):
        self[scope] = value


class Greeting(unittest.TestCase):
    def test_it_greets_and_counts(self):
        ctx = SimpleNamespace(vault=Vault())
        self.assertEqual(main.greet(ctx, "Ada"), {"text": "Hello, Ada!", "times": 1})
        self.assertEqual(main.greet(ctx, "Ada")["times"], 2)
        self.assertEqual(list(ctx.vault), ["{plugin_id}/Ada"])


if __name__ == "__main__":
    unittest.main()
'''


def scaffold(plugin_id: PluginId) -> Mapping[str, str]:
    """Give the files of a new plugin, by their name; it can be registered, approved and run as it is."""
    name = plugin_id.replace("-", " ").capitalize()
    manifest = {
        "$schema": f"./{SCHEMA_NAME}",
        "plugin_id": plugin_id,
        "name": name,
        "version": "0.1.0",
        "description": "Says hello, and remembers to whom.",
        "author": "",
        "manifest_version": "2.0.0",
        "requested_permissions": [
            {"permission": "vault_write", "scope": plugin_id, "purpose": "to count how often somebody was greeted"}
        ],
        "capabilities": [
            {
                "name": "greet",
                "description": "Says hello to somebody, and tells how often it did.",
                "parameters": {"name": "string"},
                "return_type": "object",
            }
        ],
        "sandbox_config": {"timeout": 10, "memory_limit": 64},
        "risk_tier": "moderate",
    }
    return {
        "manifest.json": json.dumps(manifest, indent=2) + "\n",
        SCHEMA_NAME: json.dumps(manifest_schema(), indent=2) + "\n",
        "main.py": _CODE.format(name=name, plugin_id=plugin_id),
        "test_main.py": _TEST.replace("{plugin_id}", plugin_id),
    }
