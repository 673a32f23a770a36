"""What the OpenAPI document says is what is answered: by schemathesis, which reads nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.served import Gateway

if TYPE_CHECKING:
    from tests.conftest import MakeHome

SETTINGS = Path(__file__).parent / "openapi" / "schemathesis.toml"
EVERYTHING = ("evaluate", "execute", "approve", "consent", "admin", "audit")
RULES = "p, tries, user:tess, gateway, admin, *, -, allow, tries everything\n"
PROBLEMS = {"400", "403", "421", "500", "503"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("user", "scopes", "phases"),
    [
        ("tess", EVERYTHING, "examples,coverage,fuzzing,stateful"),
        ("nobody", ("evaluate",), "coverage,fuzzing"),
    ],
)
def test_every_answer_is_one_that_the_document_tells_of(
    make_home: "MakeHome", tmp_path: Path, user: str, scopes: tuple[str, ...], phases: str
) -> None:
    home = make_home(rules=RULES)
    home.close()
    served = Gateway(home.folder)
    try:
        key, base = served.key(user, *scopes), f"http://127.0.0.1:{served.port}"
        document = tmp_path / "openapi.json"
        reader = served.key("tess", "audit")
        found = httpx.get(f"{base}/schema/openapi.json", headers={"authorization": f"Bearer {reader}"}, timeout=30)
        document.write_bytes(found.content)
        ended = subprocess.run(
            [
                *(Path(sys.executable).parent / "st", "--config-file", SETTINGS, "run", document, "--url", base),
                *("-H", f"Authorization: Bearer {key}", "--phases", phases, "--max-examples", "10", "--seed", "1"),
                *("--request-timeout", "20", "--continue-on-failure", "--no-color"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "COLUMNS": "200"},
        )
        assert ended.returncode == 0, f"{ended.stdout[-6000:]}\n{ended.stderr[-2000:]}\n{served.said[-2000:]}"
        assert "Selected: 8" in ended.stdout
        assert served.process.poll() is None
    finally:
        served.end()


def test_each_operation_tells_its_problems_and_who_may_ask(make_home: "MakeHome") -> None:
    home = make_home()
    document = home.owner.get("/schema/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["responses"].keys() >= PROBLEMS, path
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"].keys() == {"application/problem+json"}, (path, status)
            is_open = operation.get("security") == [{}]
            assert is_open is (path == "/healthz" or path.startswith("/.well-known/")), path
            assert ("401" in operation["responses"]) is not is_open, path
    assert len(set(names)) == len(names)
    assert document["security"] == [{"bearer": []}]
    body = document["components"]["schemas"]["KeyBody"]["properties"]
    assert "pattern" in body["rate"]["anyOf"][0]


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/audit/erase", "/v1/plugins", "/v1/consents"])
def test_options_name_every_method_of_a_path(make_home: "MakeHome", path: str) -> None:
    answer = make_home().owner.ask("OPTIONS", path)
    assert answer.headers["allow"] == "GET, OPTIONS, POST"
