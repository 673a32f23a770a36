"""A client that a generator makes from the OpenAPI document works as it is."""

import json
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

MAKER = Path(sys.prefix) / "client" / "bin"
USE = Path(__file__).parent / "client" / "use.py"
RULES = "p, tries, user:tess, gateway, admin, *, -, allow, tries everything\n"
ADDER = {
    "plugin_id": "adder",
    "name": "Adder",
    "version": "1.0.0",
    "capabilities": [{"name": "add", "parameters": {"a": "integer", "b": "integer"}, "return_type": "integer"}],
}


@pytest.mark.skipif(
    not (MAKER.parent / ".installed").exists() and "CI" not in os.environ,
    reason="no generator of clients is installed (`make generated-client`), so it is NOT TESTED here",
)
@pytest.mark.timeout(200)
def test_a_client_made_from_the_document_works(make_home: "MakeHome", tmp_path: Path) -> None:
    home = make_home(rules=RULES)
    home.close()
    folder = home.folder / "plugins" / "adder"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(ADDER))
    (folder / "main.py").write_text("def add(ctx, a, b):\n    return a + b\n")
    served = Gateway(home.folder)
    try:
        key, base = served.key("tess", "evaluate", "execute", "approve", "admin"), f"http://127.0.0.1:{served.port}"
        document = tmp_path / "openapi.json"
        headers = {"authorization": f"Bearer {key}"}
        document.write_bytes(httpx.get(f"{base}/schema/openapi.json", headers=headers, timeout=30).content)
        env = {"PATH": f"{MAKER}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
        made = subprocess.run(
            [
                *(MAKER / "openapi-python-client", "generate", "--path", document),
                *("--output-path", tmp_path / "made", "--meta", "none"),
            ],
            check=False, capture_output=True, text=True, env=env, cwd=tmp_path,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert made.stdout.count("WARNING") <= 1, made.stdout  # the stream of records has no end, and so no shape
        used = subprocess.run(
            [MAKER / "python", USE, base, key], check=False, capture_output=True, text=True, env=env, cwd=tmp_path
        )
        assert used.returncode == 0, used.stderr
        assert json.loads(used.stdout) == {
            "statuses": [200, 201, 200, 200, 404],
            "effect": "deny",
            "output": 5,
            "problem": ["Problem", "urn:hearthgate:problem:not_found"],
        }
    finally:
        served.end()
