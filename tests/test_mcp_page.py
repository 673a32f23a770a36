"""What docs/mcp.md shows is so."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from gateway.flows.tools import MAX_NAME
from gateway.http.mcp.consents import _FOR_GOOD, _FOR_NOW, _NO
from gateway.http.mcp.door import MAX_BODY_BYTES
from gateway.http.mcp.serving import MAX_SESSIONS_EACH
from tests.app.served import WAIT_S
from tests.http.mcp.conftest import TOOLS, serve_demo

PAGE = (Path(__file__).parent.parent / "docs" / "mcp.md").read_text()


def test_a_client_that_is_set_up_as_the_page_says_sees_the_tools(tmp_path: Path) -> None:
    shown = re.search(r"^```json client.json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    (server,) = json.loads(shown[1])["mcpServers"].values()
    gateway = serve_demo(tmp_path / "home")

    async def names() -> list[str]:
        headers = {
            "authorization": server["headers"]["Authorization"].replace("hg_...", gateway.key("alice", "execute"))
        }
        url = server["url"].replace("8642", str(gateway.port))
        async with (
            create_mcp_http_client(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return [each.name for each in (await client.list_tools()).tools]

    try:
        assert asyncio.run(asyncio.wait_for(names(), WAIT_S)) == TOOLS
    finally:
        gateway.end()


def test_the_commands_of_the_page_make_its_keys(tmp_path: Path) -> None:
    hearthgate, folder = Path(sys.executable).with_name("hearthgate"), tmp_path / "home"
    subprocess.run([hearthgate, "init", folder], check=True, capture_output=True)
    commands = re.findall(r"^hearthgate (key add .*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    assert [each.count("--scope") for each in commands] == [1, 2]
    for command in commands:
        told = subprocess.run(
            [hearthgate, "--home", folder, "--json", *shlex.split(command)], check=True, capture_output=True, text=True
        )
        assert json.loads(told.stdout)["key"].startswith("hg_")


def test_the_commands_for_an_agent_that_sees_nothing_are_there(tmp_path: Path) -> None:
    hearthgate, folder = Path(sys.executable).with_name("hearthgate"), tmp_path / "home"
    subprocess.run([hearthgate, "init", folder, "--plugins"], check=True, capture_output=True)
    subprocess.run([hearthgate, "--home", folder, "plugin", "register", "notes"], check=True, capture_output=True)
    section = PAGE.partition("## When an agent sees no tools")[2].partition("\n## ")[0]
    commands = re.findall(r"`hearthgate (.*?)`", section)
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command.replace("ID", "notes"))
        left = subprocess.run([hearthgate, "--home", folder, *words], check=False, capture_output=True, text=True)
        assert left.returncode == 0, left.stderr


def test_the_page_tells_the_bounds_and_the_answers_that_there_are() -> None:
    assert f"at most {MAX_NAME} characters" in PAGE
    assert f"at most {MAX_SESSIONS_EACH} sessions" in PAGE
    assert f"at most {MAX_BODY_BYTES >> 20} MiB" in PAGE
    assert (_NO, _FOR_NOW, _FOR_GOOD) == ("no", "yes, for ten minutes", "yes, until I withdraw it")
