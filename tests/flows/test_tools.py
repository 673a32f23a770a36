"""Names of tools are short, lasting and unequal; settings may give others, which take nothing from anybody."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.names import PluginId
from gateway.errors import ConfigError
from gateway.flows.tools import MAX_NAME, Tools, made_name
from tests.conftest import new_home

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home, MakeHome

IDS = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True).filter(lambda text: 2 <= len(text) <= 64)
CAPABILITIES = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True).filter(lambda text: len(text) <= 100)


@given(IDS, CAPABILITIES, IDS, CAPABILITIES)
def test_no_two_capabilities_have_the_same_name(one: str, first: str, other: str, second: str) -> None:
    names = made_name(one, first), made_name(other, second)
    assert (names[0] == names[1]) == ((one, first) == (other, second))
    assert all(len(name) <= MAX_NAME and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for name in names)


@given(IDS, CAPABILITIES)
def test_a_short_name_is_the_plugin_and_the_capability(plugin_id: str, capability: str) -> None:
    full = f"{plugin_id}__{capability}"
    assert (made_name(plugin_id, capability) == full) == (len(full) <= MAX_NAME)


CODE = "def one(ctx):\n    return 1\n\n\ndef {long}(ctx):\n    return 2\n"
LONG = "l" + "o" * 60 + "ng"


def offered(home: "Home", tools: Tools) -> list[str]:
    from gateway.domain.caller import Caller
    from gateway.domain.names import UserId

    return [each.name for each in home.do(tools.offered(Caller(user_id=UserId("root"), owner=True)))]


def test_a_long_name_is_found_again(home: "Home") -> None:
    capabilities = [{"name": "one"}, {"name": LONG}]
    home.install("demo", CODE.format(long=LONG), capabilities=capabilities)
    tools = Tools(home.parts, {})
    names = offered(home, tools)
    assert len(names) == 2
    for name, capability in zip(sorted(names), sorted(["one", LONG]), strict=True):
        found = tools.find(name)
        assert found is not None
        assert found.capability.name == capability
    assert tools.find(f"demo__{LONG}") is None


def test_what_is_not_active_offers_nothing(home: "Home") -> None:
    home.install("demo", CODE.format(long="two"), capabilities=[{"name": "one"}, {"name": "two"}])
    tools = Tools(home.parts, {})
    assert offered(home, tools) == ["demo__one", "demo__two"]
    assert home.owner.post("/v1/plugins/demo/suspend", {"reason": "test"}).status_code == 200
    assert offered(home, tools) == []
    assert tools.find("demo__one") is None


def test_a_plugin_without_capabilities_offers_nothing(home: "Home") -> None:
    home.install("puppet")
    assert offered(home, Tools(home.parts, {})) == []
    assert Tools(home.parts, {}).find("puppet__execute") is None


def test_the_operator_may_give_a_tool_another_name(make_home: "MakeHome") -> None:
    home = make_home(settings='[mcp.names]\nplain = "demo__one"\n')
    home.install("demo", CODE.format(long="two"), capabilities=[{"name": "one"}, {"name": "two"}])
    tools = Tools(home.parts, home.house.settings.mcp.names)
    assert offered(home, tools) == ["demo__two", "plain"]
    assert tools.find("demo__one") is None
    found = tools.find("plain")
    assert found is not None
    assert (found.plugin.id, found.capability.name) == ("demo", "one")


@pytest.mark.parametrize(
    "line", ['other__two = "demo__one"', 'plain = "demo"', '"a b" = "demo__one"', f'{"x" * 65} = "demo__one"']
)
def test_a_given_name_is_none_that_could_be_made(tmp_path: "Path", line: str) -> None:
    home = new_home(tmp_path / "home", settings=f"[mcp.names]\n{line}\n")
    try:
        with pytest.raises(ConfigError):
            home.open()
    finally:
        home.end()


@pytest.mark.parametrize(
    ("wants", "rule", "reads_only", "abroad"),
    [
        ((), "", True, False),
        (("vault_read notes",), "", True, False),
        (("vault_write notes",), "", False, False),
        (("network_read example.com",), "", True, True),
        (("api_write weather/now",), "", False, True),
        (("plugin_execute other",), "", False, True),
        ((), "p, test-1, plugin:demo, file, write, /srv/x/*, -, allow, by a rule\n", False, False),
        ((), "p, test-1, group:plugins, network, read, example.com, -, allow, by a group\n", True, True),
        ((), "p, test-1, plugin:demo, *, read, notes/*, consent, allow, by a rule for all kinds\n", True, True),
        ((), "p, test-1, plugin:demo, vault, write, *, -, deny, takes away and gives nothing\n", True, False),
    ],
)
def test_hints_are_what_the_rules_allow_at_most(
    home: "Home", wants: tuple[str, ...], rule: str, *, reads_only: bool, abroad: bool
) -> None:
    home.install("demo", CODE.format(long="two"), wants=wants, capabilities=[{"name": "one"}, {"name": "two"}])
    home.write_rules(rule)
    home.reload()
    told = Tools(home.parts, {}).reach(PluginId("demo"))
    assert (told.reads_only, told.abroad) == (reads_only, abroad)
