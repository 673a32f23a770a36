"""`plugin lint`: each mistake is told at its file and line, no code is run, and what is right is left alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.registry.inspection.source import read_source
from gateway.registry.json_places import line_of
from gateway.registry.lint import lint_plugin

ROOT = Path(__file__).parents[2]
READS = {"permission": "vault_read", "scope": "notes"}
QUIET = "def execute(ctx, payload):\n    return ctx.vault.read(payload['x'])\n"


def lint(tmp_path: Path, code: str = QUIET, **manifest: Any) -> list[str]:  # noqa: ANN401 (JSON)
    folder = tmp_path / "tested"
    folder.mkdir()
    told = {"plugin_id": "tested", "name": "Tested", "version": "1.0.0", "requested_permissions": [READS], **manifest}
    (folder / "manifest.json").write_text(json.dumps(told, indent=1))
    (folder / "main.py").write_text(code)
    return [str(each) for each in lint_plugin(folder)]


@pytest.mark.parametrize("name", ["notes", "weather", "shelf", "headlines"])
def test_the_example_plugins_have_nothing_wrong(name: str) -> None:
    assert lint_plugin(ROOT / "plugins" / name) == []


def test_the_hostile_example_is_told_by_its_code(tmp_path: Path) -> None:  # noqa: ARG001 (nothing is written)
    told = [str(each) for each in lint_plugin(ROOT / "plugins" / "hostile")]
    assert any("`ctx.system.run` needs `system_execute`" in each for each in told)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ctx.vault.write('notes/a', 1)", "`ctx.vault.write` needs `vault_write`, which the manifest does not request"),
        (
            "ctx.vault.read('diary')",
            "`ctx.vault.read` is about `diary`; of `vault_read` the manifest requests `notes/*`",
        ),
        ("ctx.vault.read(scope='diary')", "is about `diary`"),
        ("ctx.vault.read('../a')", "`ctx.vault.read`: "),
        ("ctx.http.get('https://a.example/x')", "needs `network_read`"),
        ("ctx.http.request('DELETE', 'https://a.example/x')", "needs `network_write`"),
        ("ctx.http.request(payload, 'https://a.example/x')", "needs `network_read`"),
        ("ctx.api.call('weather', 'POST', '/now?x=1')", "needs `api_write`"),
        ("ctx.files.list('/srv')", "needs `file_read`"),
        ("ctx.system.run(['/bin/ls'])", "needs `system_execute`"),
        ("ctx.system.info('cpu')", "needs `system_read`"),
        ("ctx.plugins.call('weather', {})", "needs `plugin_execute`"),
        ("ctx.user.set('name', 1)", "needs `user_write`"),
        ("ctx.core.get('time')", "needs `core_read`"),
    ],
)
def test_a_call_without_its_permission_is_told_with_its_line(tmp_path: Path, body: str, said: str) -> None:
    (told, *_) = [each for each in lint(tmp_path, f"{QUIET}    {body}\n") if each.startswith("main.py:3: ")]
    assert said in told


@pytest.mark.parametrize(
    ("wants", "body"),
    [
        (("vault_write", "notes"), "ctx.vault.read('notes/a')"),
        (("network_read", "*.example"), "ctx.http.get('https://a.example:443/x')"),
        (("network_admin", "a.example:8443"), "ctx.http.post('https://a.example:8443/x')"),
        (("api_read", "weather/*"), "ctx.api.call('weather', 'get', '/now?x=1')"),
        (("file_read", "/srv"), "ctx.files.read('/srv/a')"),
        (("system_execute", "/bin/ls"), "ctx.system.run(['/bin/ls', '-l'])"),
        (("system_execute", "/bin/ls"), "ctx.system.run(['ls'])"),
        (("plugin_execute", "weather"), "ctx.plugins.call('weather', {})"),
        (("network_write", "a.example"), "import requests"),
        (("user_read", "name"), "ctx.user.get(payload)"),
    ],
)
def test_a_call_that_its_permission_covers_is_left_alone(tmp_path: Path, wants: tuple[str, str], body: str) -> None:
    asked = {"permission": wants[0], "scope": wants[1]}
    code = f"def execute(ctx, payload):\n    {body}\n"
    assert lint(tmp_path, code, requested_permissions=[asked]) == []


def test_the_door_may_have_another_name_and_be_used_in_another_file(tmp_path: Path) -> None:
    told = lint(tmp_path, "def execute(door, payload):\n    return door.core.get('time')\n")
    assert any(each.startswith("main.py:2: `ctx.core.get`") for each in told)


def test_what_is_promised_and_not_there_is_told_in_the_manifest(tmp_path: Path) -> None:
    told = lint(
        tmp_path,
        "async def one(ctx): return ctx.vault.read('notes')\ndef two(ctx): pass\n",
        capabilities=[{"name": "one"}, {"name": "two", "async_support": True}, {"name": "three"}],
        lifecycle_hooks={"revoked": "gone"},
        self_test="check",
        requirements="requirements.lock",
    )
    for said in (
        "main.py:1: `one` is an `async def`",
        "main.py:2: warning: `two` is no `async def`",
        "capabilities[2].name: `main.py` has no function `three`",
        "lifecycle_hooks.revoked: `main.py` has no function `gone`",
        "self_test: `main.py` has no function `check`",
        "requirements: there is no file `requirements.lock`",
    ):
        assert any(said in each for each in told), (said, told)
    lines = (tmp_path / "tested" / "manifest.json").read_text().splitlines()
    (gone,) = [each for each in told if "lifecycle_hooks.revoked" in each]
    assert '"revoked"' in lines[int(gone.split(":")[1]) - 1]


GREETS = {
    "name": "greet",
    "parameters": {"type": "object", "properties": {"whom": "string", "times": "integer"}, "required": ["whom"]},
}


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("ctx, whom, times=1", []),
        ("ctx, whom, *, times=1", []),
        ("ctx, **given", []),
        ("ctx, /, whom, times=1", []),
        ("ctx, whom, times", ["`greet` needs `times`, which a call may leave out: give it a default"]),
        ("ctx, whom", ["`greet` takes no `times`, which a call gives it"]),
        ("ctx, whom, times=1, *, loud", ["`greet` needs `loud`, which no call gives it"]),
        ("ctx, whom, /, times=1", ["`greet` takes no `whom`, which a call gives it"]),
    ],
)
def test_a_function_takes_what_its_capability_gives(tmp_path: Path, signature: str, said: list[str]) -> None:
    told = lint(tmp_path, f"def greet({signature}): pass\n", capabilities=[GREETS], requested_permissions=[])
    assert told == [f"main.py:1: {each}" for each in said]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def execute(ctx, payload:\n", "main.py:1: syntax: "),
        ("x = 1\0", "main.py:1: syntax: "),
        ("x = " + "-" * 100_000 + "1", "main.py:1: syntax: "),
        ("x = 1" + " " * (1 << 20), "more than 1 MiB"),
        ("", "`main.py` has no function `execute`"),
    ],
    ids=["syntax", "zero", "deep", "large", "empty"],
)
def test_code_that_cannot_be_read_is_told(tmp_path: Path, code: str, said: str) -> None:
    assert any(said in each for each in lint(tmp_path, code))


def test_a_permission_that_nothing_needs_is_a_warning(tmp_path: Path) -> None:
    told = lint(tmp_path, "def execute(ctx, payload):\n    return 1\n")
    assert [each.partition(": ")[2] for each in told] == [
        "warning: requested_permissions[0]: nothing in the code seems to need `vault_read` on `notes/*`"
    ]


def test_a_manifest_that_is_none_is_told_with_line_and_column(tmp_path: Path) -> None:
    folder = tmp_path / "tested"
    folder.mkdir()
    (folder / "manifest.json").write_text('{\n "plugin_id": }')
    assert [str(each) for each in lint_plugin(folder)] == ["manifest.json:2:15: Expecting value"]
    (folder / "manifest.json").unlink()
    assert "there is none" in str(lint_plugin(folder)[0])
    assert "there is no folder" in str(lint_plugin(tmp_path / "absent")[0])


def test_nothing_of_the_plugin_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    lint(tmp_path, f"open({str(marker)!r}, 'w')\n{QUIET}")
    assert not marker.exists()


@given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_characters=".[]", codec="utf-8"), min_size=1), inner, max_size=4), max_leaves=12), st.sampled_from([None, 1]))  # fmt: skip  # noqa: E501 (one strategy)
def test_a_member_is_found_where_it_stands(value: Any, indent: int | None) -> None:  # noqa: ANN401 (JSON)
    text = json.dumps(value, indent=indent)
    path, there = "", value
    while isinstance(there, dict | list) and there:
        step = next(iter(there)) if isinstance(there, dict) else len(there) - 1
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
        there = there[step]
    line = text.splitlines()[line_of(text, path) - 1] if "\n" in text else text
    if not isinstance(there, dict | list):
        assert json.dumps(there) in line


@given(st.text())
def test_no_source_makes_the_reader_stumble(source: str) -> None:
    assert set(read_source({"main.py": source.encode("utf-8", "replace")}, "main.py")) == {"functions", "uses", "imports", "errors"}  # fmt: skip  # noqa: E501 (the whole answer)
