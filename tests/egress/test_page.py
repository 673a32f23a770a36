"""docs/network.md: its rules are rules, its plugin works, and its table of answers is what clients are told."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.errors import HearthgateError
from gateway.executor import confine
from gateway.resources.network import LINE_SHARE, MAX_LINES

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

PAGE = (Path(__file__).parents[2] / "docs" / "network.md").read_text()
CODE, RULES = (re.findall(rf"```{kind} \S+\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("python", "csv"))
Travel = Callable[..., "Home"]


def test_the_plugin_of_the_page_works_by_the_rules_of_the_page(
    travel: Travel, internet: "Internet", monkeypatch: pytest.MonkeyPatch
) -> None:
    port = internet.https
    home = travel(RULES.replace("feeds.house.test:8443", f"good.test:{port}"))
    assert home.reload().problems == ()
    monkeypatch.setattr(confine.certifi, "where", lambda: str(internet.ca))
    capability = {"name": "headlines", "parameters": {"feed": "string"}, "return_type": "array"}
    home.install("headlines", CODE, capabilities=[{"description": "x", "version": "1.0.0", **capability}])
    payload = {"action": "headlines", "feed": f"https://good.test:{port}/feed"}
    alice = home.person("alice", "execute")
    refused = alice.post("/v1/plugins/headlines/execute", {"payload": payload}).json()
    # A deny that looks at the URL refuses what hides it, as the page says.
    assert "Denied by the policy (rule)" in refused["error"], refused
    without = [line for line in RULES.splitlines(keepends=True) if "no-admin" not in line]
    home.rules("".join(without).replace("feeds.house.test:8443", f"good.test:{port}"))
    answer = alice.post("/v1/plugins/headlines/execute", {"payload": payload}).json()
    assert answer["output"] == ["rain", "sun", "snow"], answer


def test_the_page_names_every_status_that_the_gateway_itself_answers() -> None:
    told = {int(each) for each in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    known = {each.status for each in HearthgateError.__subclasses__()}
    assert told == {400, 403, 413, 429, 502, 503}
    assert told - {502} <= known
    assert f"{LINE_SHARE} of {MAX_LINES}" in PAGE
