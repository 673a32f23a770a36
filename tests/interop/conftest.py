"""Live gateways whose policy is that of a published interoperability scenario."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.app import init_home
from tests.app.served import WAIT_S, Gateway

HERE = Path(__file__).parent


def serve_scenario(folder: Path, name: str) -> Gateway:
    """Serve a new home with the starter policy and, beside it, the files of a scenario."""
    init_home(folder)
    policies, scenario = folder / "policies", HERE / name
    with (policies / "roles.csv").open("a") as roles:
        roles.write((scenario / "roles.csv").read_text() + "g, user:pep, role:auditor\n")
    (policies / "entities.toml").write_text((scenario / "entities.toml").read_text())
    (policies / "rules" / "80-scenario.csv").write_text((scenario / "rules.csv").read_text())
    return Gateway(folder)


def _asking(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[httpx.Client]:
    gateway = serve_scenario(tmp_path_factory.mktemp(name) / "home", name)
    try:
        headers = {"authorization": f"Bearer {gateway.key('pep', 'evaluate')}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers, timeout=WAIT_S) as client:
            yield client
    finally:
        gateway.end()


@pytest.fixture(scope="module")
def todo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Give a client of a gateway that serves the to-do list's policy."""
    yield from _asking(tmp_path_factory, "todo")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Give a client of a gateway that serves the records' policy."""
    yield from _asking(tmp_path_factory, "records")
