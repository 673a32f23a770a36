"""What a plugin depends on is unpacked by hash at its registration and seen read-only in its cell."""

import base64
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import MalformedError
from gateway.registry.packages import build_packages, check_lock

if TYPE_CHECKING:
    from tests.conftest import Home, Person

TESTDATA = Path(__file__).parent.parent / "testdata"
HASH = "--hash=sha256:" + "0" * 64
LIMITS = {"max_memory_usage": 400}
PLUGIN = """
import importlib, os
def execute(ctx, payload):
    module = importlib.import_module(payload["module"])
    try:
        open(module.__file__, "a").close()
        held = False
    except OSError:
        held = True
    return [getattr(module, "VALUE", None), module.__file__.split("/")[1], held]
"""
WHEELS = """
import io, sys
def execute(ctx, payload):
    return globals()[payload["library"]]()
def numpy():
    import numpy
    from numpy import linalg, random
    square = random.default_rng(1).random((50, 50))
    return round(float((square @ linalg.inv(square)).trace()), 6)
def cryptography():
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.asymmetric import ed25519
    private, box = ed25519.Ed25519PrivateKey.generate(), Fernet(Fernet.generate_key())
    private.public_key().verify(private.sign(b"x"), b"x")
    return box.decrypt(box.encrypt(b"sealed")).decode()
def requests():
    import requests
    try:
        requests.get("http://127.0.0.1:9/", timeout=2)
    except requests.ConnectionError:
        return requests.Request("GET", "http://example.org/a", params={"b": "c"}).prepare().url
def pillow():
    from PIL import Image, ImageFilter
    kept = io.BytesIO()
    Image.new("RGB", (64, 32), (255, 0, 0)).filter(ImageFilter.BLUR).save(kept, "PNG")
    return list(Image.open(kept).size)
"""


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a wheel in a folder that is all pip knows, and give the line that locks it."""
    shelf = tmp_path / "wheels"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def make(name: str, files: dict[str, str], version: str = "1.0") -> str:
        info = f"{name}-{version}.dist-info"
        whole = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        digest = base64.urlsafe_b64encode
        record = [
            f"{path},sha256={digest(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
            for path, text in whole.items()
        ]
        path = shelf / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for each, text in {**whole, f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,"])}.items():
                archive.writestr(each, text)
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    return make


def ask(person: "Person", plugin: str, payload: dict[str, str]) -> dict[str, Any]:
    answer = person.post(f"/v1/plugins/{plugin}/execute", {"payload": payload})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def call(person: "Person", plugin: str, payload: dict[str, str]) -> Any:  # noqa: ANN401  # JSON may be anything
    told = ask(person, plugin, payload)
    assert told["outcome"] == "returned", told
    return told["output"]


def add_lock(home: "Home", plugin: str, lock: str) -> None:
    folder = home.folder / "plugins" / plugin
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "packages.lock").write_text(lock)


def test_a_plugin_imports_what_it_locked_and_cannot_change_it(home: "Home", wheel: Callable[..., str]) -> None:
    add_lock(home, "counted", wheel("abacus", {"abacus/__init__.py": "VALUE = 5\n", "json.py": "VALUE = 'mine'\n"}))
    home.install("counted", PLUGIN, requirements="packages.lock", resource_limits=LIMITS)
    alice = home.person("alice", "execute")
    assert call(alice, "counted", {"module": "abacus"}) == [5, "packages", True]
    assert call(alice, "counted", {"module": "json"})[0] is None, "a package stands in for no module of the library"
    home.install("other", PLUGIN, resource_limits=LIMITS)
    assert "ModuleNotFoundError" in ask(alice, "other", {"module": "abacus"})["error"]


def test_two_plugins_with_one_lock_share_what_was_built(home: "Home", wheel: Callable[..., str]) -> None:
    lock = wheel("abacus", {"abacus.py": "VALUE = 5\n"})
    for name in ("first", "second"):
        add_lock(home, name, lock)
        home.install(name, PLUGIN, requirements="packages.lock")
    assert len(list((home.folder / "data" / "packages").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "lock", "told"),
    [
        ("packages.lock", "abacus==1.0 " + HASH, "cannot be had"),
        ("packages.lock", "abacus==1.0", "no locked file"),
        ("packages.lock", "abacus>=1 " + HASH, "no locked file"),
        ("packages.lock", "--index-url https://elsewhere.example\n", "no locked file"),
        ("packages.lock", "-r other.txt", "no locked file"),
        ("packages.lock", "-e .", "no locked file"),
        ("packages.lock", "abacus @ file:///etc " + HASH, "no locked file"),
        ("packages.lock", f"abacus==1.0 {HASH} --config-settings=x=y", "no locked file"),
        ("packages.lock", "ab\u00e4cus==1.0 " + HASH, "ASCII"),
        ("../packages.lock", "", "no file"),
        ("missing.lock", "", "no file"),
    ],
)
def test_what_is_no_lock_is_refused_at_registration(
    home: "Home", wheel: Callable[..., str], name: str, lock: str, told: str
) -> None:
    wheel("abacus", {"abacus.py": ""})
    add_lock(home, "counted", lock)
    home.write_plugin("counted", PLUGIN, requirements=name)
    answer = home.owner.post("/v1/plugins", {"folder": "counted"})
    assert answer.status_code == 400, answer.text
    assert told in answer.text
    assert not list((home.folder / "data").glob("packages/*"))


@pytest.mark.usefixtures("wheel")
def test_a_source_is_never_built(tmp_path: Path) -> None:
    shelf = tmp_path / "wheels"
    source = shelf / "evil-1.0.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("evil-1.0/setup.py", f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    lock = f"evil==1.0 --hash=sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode()
    with pytest.raises(MalformedError, match="cannot be had"):
        build_packages("packages.lock", lock, tmp_path / "store")
    assert not (tmp_path / "ran").exists()


def test_a_lock_as_tools_write_it_is_taken() -> None:
    check_lock("packages.lock", (TESTDATA / "packages.lock").read_bytes())


def test_well_known_wheels_work_in_a_cell(home: "Home") -> None:
    """The one test of this file that needs an index of packages, as setting up the tests did."""
    add_lock(home, "wheels", (TESTDATA / "packages.lock").read_text())
    home.install("wheels", WHEELS, requirements="packages.lock", resource_limits=LIMITS)
    alice = home.person("alice", "execute")
    assert call(alice, "wheels", {"library": "numpy"}) == 50.0
    assert call(alice, "wheels", {"library": "cryptography"}) == "sealed"
    assert call(alice, "wheels", {"library": "requests"}) == "http://example.org/a?b=c"
    assert call(alice, "wheels", {"library": "pillow"}) == [64, 32]
