"""A guarantee that the host lacks and the operator accepts to be missing is told with every decision about a plugin."""

from typing import TYPE_CHECKING

import pytest

from gateway.errors import ConfigError
from sandbox.probe import Guarantee

if TYPE_CHECKING:
    from tests.conftest import MakeHome

ACCEPTING = '[sandbox]\naccept_missing = ["cg_cpu"]\n'


@pytest.mark.parametrize(("held", "told"), [(False, ["cg_cpu"]), (True, None)])
def test_what_is_missing_shows_on_every_decision(make_home: "MakeHome", held: bool, told: list[str] | None) -> None:  # noqa: FBT001  # a table's
    home = make_home(settings=ACCEPTING)
    home.parts.host._prove = lambda: (Guarantee(name="cg_cpu", held=held, mandatory=False, detail="tested"),)
    home.parts.host.prove()
    home.install("puppet", wants=("vault_read notes",))
    home.person("alice", "execute").run("puppet", ["vault.read", "notes/today"])
    rows = home.decided(subject="plugin:puppet")
    assert {row["kind"] for row in rows} == {"plugin", "vault"}
    assert [row.get("degraded") for row in rows] == [told] * len(rows)


def test_only_what_a_call_can_do_without_may_be_accepted(make_home: "MakeHome") -> None:
    with pytest.raises(ConfigError, match="settings that cannot be"):
        make_home(settings='[sandbox]\naccept_missing = ["seccomp"]\n')
