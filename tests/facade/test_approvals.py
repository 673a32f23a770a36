"""Approvals of exact calls from Python: seen, answered, and never one's own."""

from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.app import init_home
from gateway.errors import DeniedError

CODE = "def execute(ctx, payload):\n    ctx.vault.write('notes/a', payload['text'])\n    return 'kept'\n"
RULE = "p, asked, plugin:keeper, vault, write, notes/*, approval, allow, each is looked at\n"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    init_home(tmp_path / "house")
    folder = tmp_path / "house" / "plugins" / "keeper"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    (tmp_path / "house" / "policies" / "rules" / "60-keeper.csv").write_text(RULE)
    return tmp_path / "house"


def waiting(gw: Any) -> str:  # noqa: ANN401 (the facade's own)
    (waits,) = gw.approvals.get_call_approvals()
    found: str = waits["id"]
    return found


def test_they_are_listed_denied_and_approved(house: Path) -> None:
    approval = house / "policies" / "approval.toml"
    with gateway.open(house) as gw:
        gw.plugins.register_plugin({"plugin_id": "keeper", "name": "Keeper", "version": "1.0.0"}, "alice")
        gw.plugins.approve_plugin("keeper", "alice", "test")
        assert not gw.plugins.execute_plugin("keeper", "alice", {"text": "a"}).success
        with pytest.raises(DeniedError):
            gw.approvals.approve_call(waiting(gw), "bob", "the owner made it")
        assert gw.approvals.deny_call(waiting(gw), "alice", "no")
        assert gw.approvals.get_call_approvals() == []
        assert [each["status"] for each in gw.approvals.get_call_approvals(None)] == ["denied"]
    approval.write_text(approval.read_text().replace("own = false", "own = true"))
    with gateway.open(house) as gw:
        assert not gw.plugins.execute_plugin("keeper", "alice", {"text": "b"}).success
        assert gw.approvals.approve_call(waiting(gw), "alice", "yes")
        assert gw.plugins.execute_plugin("keeper", "alice", {"text": "b"}).success
        assert not gw.plugins.execute_plugin("keeper", "alice", {"text": "b"}).success
