"""docs/files.md: its plugin works as it stands, and what it says of outcomes is what callers get."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.witness import MOST

if TYPE_CHECKING:
    from tests.conftest import Home

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
SHELF = Path(__file__).parents[2] / "plugins" / "shelf"


def block(language: str, name: str) -> str:
    found = re.search(rf"^```{language} {re.escape(name)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


def shelf_of(tmp_path: Path) -> Path:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "one.txt").write_text("to be or not to be")
    (shelf / "two.txt").write_text("that is the question")
    return shelf


def test_its_plugin_reads_its_folder(home: "Home", tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    code, manifest = (
        text.replace("/srv/shelf", str(shelf)) for text in (block("python", "main.py"), block("json", "manifest.json"))
    )
    home.install("reader", code, **json.loads(manifest))
    answer = home.person("alice", "execute").post("/v1/plugins/reader/execute", {"payload": {}}).json()
    assert answer["output"] == {"one.txt": 6, "two.txt": 4}
    shown = json.loads(block("json", "outcome"))
    told: dict[str, Any] = answer["sandbox_result"]["files"]
    assert set(told) == set(shown)
    assert set(told["shown"][0]) == set(shown["shown"][0])


def test_the_example_plugin_writes_its_list_where_it_may(home: "Home", tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    manifest = json.loads((SHELF / "manifest.json").read_text().replace("/srv/shelf", str(shelf)))
    code = (SHELF / "main.py").read_text().replace("/srv/shelf", str(shelf))
    home.install("shelf", code, **{name: value for name, value in manifest.items() if name != "plugin_id"})
    alice = home.person("alice", "execute")
    assert alice.post("/v1/plugins/shelf/execute", {"payload": {"action": "catalogue"}}).json()["success"] is False
    wish = {"permission": "file_write", "scope": f"{shelf}"}
    asked = home.owner.post("/v1/permission-requests", {"plugin_id": "shelf", "permissions": [wish]}).json()
    given = home.owner.post(f"/v1/permission-requests/{asked['id']}/approve", {"reason": "it may keep its list"})
    assert given.status_code == 200, given.text
    answer = alice.post("/v1/plugins/shelf/execute", {"payload": {"action": "catalogue"}}).json()
    assert answer["output"] == 2
    assert (shelf / "catalogue.md").read_text() == "- one.txt: 6 words\n- two.txt: 4 words\n"
    assert answer["sandbox_result"]["files"]["written"][0]["names"] == ["catalogue.md"]


def test_its_bound_of_refused_tries_is_the_cells() -> None:
    assert f"{MOST} at most for a call" in PAGE
