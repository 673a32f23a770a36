"""The example plugins as their author would try them: real vault, real network, no gateway between."""

import asyncio
import inspect
import json
import runpy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import NotFoundError
from gateway.registry.manifest import parse_manifest
from gateway.resources.network import HttpRequest, Network
from gateway.resources.url import parse_url
from gateway.resources.vault import Vault

PLUGINS = Path(__file__).parents[2] / "plugins"
EXAMPLES = ("headlines", "notes", "shelf", "weather")


@pytest.mark.parametrize("plugin_id", EXAMPLES)
def test_every_capability_and_hook_of_the_manifest_is_a_function_of_those_parameters(plugin_id: str) -> None:
    manifest = parse_manifest(json.loads((PLUGINS / plugin_id / "manifest.json").read_text()))
    code = runpy.run_path(str(PLUGINS / plugin_id / manifest.entry_point))
    assert manifest.plugin_id == plugin_id
    for capability in manifest.capabilities:
        function = code[capability.name]
        assert list(inspect.signature(function).parameters) == ["ctx", *capability.parameters]
        assert inspect.iscoroutinefunction(function) is capability.asynchronous
    for hook in manifest.hooks.values():
        assert list(inspect.signature(code[hook]).parameters) == ["ctx"]


def test_notes_asks_for_its_notes_and_with_consent_for_the_diary() -> None:
    manifest = parse_manifest(json.loads((PLUGINS / "notes" / "manifest.json").read_text()))
    assert [(str(each.permission), each.scope, each.condition) for each in manifest.permissions] == [
        ("vault_read", "notes/*", "-"),
        ("vault_write", "notes/*", "-"),
        ("vault_read", "user_data/diary/*", "consent"),
    ]


def test_notes_are_found_again_by_the_user_who_made_them(tmp_path: Path) -> None:
    notes = runpy.run_path(str(PLUGINS / "notes" / "main.py"))
    vault = Vault(tmp_path / "vault.db")

    def ctx_of(user: str) -> SimpleNamespace:
        return SimpleNamespace(
            vault=SimpleNamespace(
                read=lambda scope: vault.read(user, scope),
                write=lambda scope, value: vault.write(user, scope, value),
                list=lambda prefix: vault.list(user, prefix),
            )
        )

    alice, bob = ctx_of("alice"), ctx_of("bob")
    for text in ("Buy milk", "Call the milkman", "Sleep", "Sleep"):
        notes["remember"](alice, text)
    assert asyncio.run(notes["recall"](alice, "MILK")) == ["Buy milk", "Call the milkman"]
    assert asyncio.run(notes["recall"](alice, "sleep")) == ["Sleep"]
    assert asyncio.run(notes["recall"](bob, "milk")) == []
    with pytest.raises(NotFoundError):
        notes["diary_summary"](alice)
    vault.write("alice", "user_data/diary", ["a quiet day", "rain"])
    assert notes["diary_summary"](alice) == {"entries": 2, "words": 4}
    vault.close()


def test_weather_asks_the_upstream_it_is_told(serve: Callable[..., AbstractContextManager[Any]]) -> None:
    weather = runpy.run_path(str(PLUGINS / "weather" / "main.py"))

    async def to_loopback(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0)
        return ["127.0.0.1"]

    def get(url: str) -> SimpleNamespace:
        request = HttpRequest(method="GET", url=parse_url(url))
        reply = asyncio.run(Network(resolve=to_loopback).request(request, private_ok=True))
        return SimpleNamespace(status=reply.status, json=lambda: json.loads(reply.body))

    ctx = SimpleNamespace(http=SimpleNamespace(get=get))
    body = b'{"summary": "rain", "temperature_c": 7.5}'
    with serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as upstream:
        answer = weather["forecast"](ctx, "Z\u00fcrich & more", f"http://api.weather.test:{upstream.port}/")
    assert answer == {"city": "Z\u00fcrich & more", "summary": "rain", "temperature_c": 7.5}
    assert upstream.received.startswith(b"GET /v1/forecast?city=Z%C3%BCrich+%26+more HTTP/1.1\r\n")
    with (
        serve(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as upstream,
        pytest.raises(RuntimeError, match="answered 503"),
    ):
        weather["forecast"](ctx, "Bonn", f"http://api.weather.test:{upstream.port}")
