"""What docs/authzen.md shows is so."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.domain.access_request import Template
from gateway.flows.access_request import REQUESTABLE_FOR

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

PAGE = (Path(__file__).parent.parent / "docs" / "authzen.md").read_text()


def shown(name: str) -> str:
    """Give the block of the page that is headed by a file's name."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def house_of_the_page(make_home: "MakeHome") -> "Home":
    home = make_home(opened=False)
    policies = home.folder / "policies"
    (policies / "rules" / "80-house.csv").write_text(shown("rules/80-house.csv"))
    with (policies / "roles.csv").open("a") as roles:
        roles.write(shown("roles.csv"))
    (policies / "entities.toml").write_text(shown("entities.toml"))
    return home.open()


def test_the_files_of_the_page_answer_as_it_says(make_home: "MakeHome") -> None:
    home = house_of_the_page(make_home)
    command = re.search(r"^\$ curl (.*?)\n(\{.*?\})$", PAGE, re.MULTILINE | re.DOTALL)
    assert command is not None
    sent = re.search(r"-d '(.*)'", command[1])
    path = re.search(r"http://127.0.0.1:8642(\S+)", command[1])
    assert sent is not None
    assert path is not None
    asker = home.person("auditor", "evaluate")
    home.write_rules(
        "p, test-asks, user:auditor, gateway, read, decisions/*, -, allow, the test asks about everybody\n"
    )
    assert [each.severity for each in home.reload().problems] == ["warning"]  # of `can_see`, as the page says
    assert asker.post(path[1], json.loads(sent[1])).text == command[2]
    for user, action, what, wanted in (
        ("bob", "edit", "shopping", False),
        ("bob", "edit", "birthday", False),
        ("bob", "view", "birthday", True),
        ("mallory", "view", "birthday", False),
    ):
        asked = {
            "subject": {"type": "user", "id": user},
            "action": {"name": action},
            "resource": {"type": "list", "id": what},
        }
        assert asker.post("/access/v1/evaluation", asked).json() == {"decision": wanted}, asked
    seen = {"subject": {"type": "user"}, "action": {"name": "can_see"}, "resource": {"type": "user", "id": "alice"}}
    found = asker.post("/access/v1/search/subject", seen).json()["results"]
    assert {"type": "user", "id": "alice"} in found
    assert {"type": "user", "id": "mallory"} not in found


def test_every_route_of_the_page_is_there(make_home: "MakeHome") -> None:
    home = make_home()
    named = set(re.findall(r"`(?:GET|POST) (/[^`]+)`", PAGE)) | {
        "/access/v1/search/resource",
        "/access/v1/search/action",
    }
    known = set(home.owner.get("/schema/openapi.json").json()["paths"])
    assert named <= known, named - known


def test_what_can_be_asked_for_is_what_the_page_lists() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.partition("## Asking for what was denied")[2], re.MULTILINE)
    assert listed == [*Template]
    assert timedelta(minutes=10) == REQUESTABLE_FOR
    assert "for ten minutes" in PAGE
