"""What docs/isolation.md shows is so."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import MakeHome

PAGE = (Path(__file__).parent.parent / "docs" / "isolation.md").read_text()


def shown(name: str) -> str:
    """Give the block of the page that is headed by a file's name."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.mark.parametrize(("wish", "told"), [("pristine", [1, 1, 1]), ("fork", [1, 1, 1]), ("shared", [1, 2, 3])])
def test_the_example_counts_as_its_comment_says(make_home: "MakeHome", wish: str, told: list[int]) -> None:
    home = make_home(opened=False)
    risk = home.folder / "policies" / "risk.toml"
    risk.write_text(risk.read_text().partition("[isolation]")[0] + shown("risk.toml"))
    home.open()
    home.install("counter", shown("main.py"), isolation=wish)
    alice = home.person("alice", "execute")
    body = {"payload": {"word": "x"}}
    assert [alice.post("/v1/plugins/counter/execute", body).json()["output"] for _ in told] == told


def test_shared_is_for_low_risk_alone(make_home: "MakeHome") -> None:
    home = make_home()
    risk = home.folder / "policies" / "risk.toml"
    risk.write_text(risk.read_text().replace('shared = "low"', 'shared = "moderate"'))
    (problem,) = home.reload().problems
    assert str(problem).startswith("risk.toml:")
    assert "`isolation.shared` must be one of low" in str(problem)
