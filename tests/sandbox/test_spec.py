"""A specification is read strictly: what could weaken a cell by being odd is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.spec import Limits, Mount, Spec, SpecError

GOOD: dict[str, Any] = {"plugin_id": "notes", "code": "/srv/notes", "uid": 1000}


@given(
    st.integers(1, 0xFFFF_FFFE),
    st.lists(st.from_regex(r"/[a-z]{1,8}/[a-z]{1,8}", fullmatch=True), max_size=4, unique=True),
    st.floats(min_value=0.01, max_value=1e6),
    st.none() | st.integers(1, 100),
)
def test_a_specification_written_is_read_as_it_was(
    uid: int, paths: list[str], timeout_s: float, cpu: int | None
) -> None:
    spec = Spec(
        plugin_id="notes",
        code="/srv/notes",
        uid=uid,
        mounts=tuple(Mount(source=path, target="/data" + path, writable=uid % 2 == 0) for path in paths),
        limits=Limits(timeout_s=timeout_s, cpu_percent=cpu),
    )
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "changed",
    [
        {"uid": 0},
        {"uid": -1},
        {"uid": 0xFFFF_FFFF},
        {"uid": True},
        {"uid": "1000"},
        {"code": "srv/notes"},
        {"code": "/srv/../etc"},
        {"code": "/srv//notes"},
        {"code": "//srv"},
        {"code": "/srv/notes/"},
        {"code": "/srv/\0"},
        {"code": None},
        {"entry_point": "../main.py"},
        {"entry_point": "main"},
        {"entry_point": "a/b.py"},
        {"plugin_id": ""},
        {"plugin_id": "../x"},
        {"limits": {"timeout_s": 0}},
        {"limits": {"timeout_s": "1"}},
        {"limits": {"memory_bytes": 1}},
        {"limits": {"memory_bytes": 1e9}},
        {"limits": {"processes": 0}},
        {"limits": {"cpu_percent": 0}},
        {"limits": {"surprise": 1}},
        {"limits": None},
        {"mounts": [{"source": "/a", "target": "/"}]},
        {"mounts": [{"source": "/a", "target": "/proc/x"}]},
        {"mounts": [{"source": "/a", "target": "/plugin"}]},
        {"mounts": [{"source": "/a", "target": "/dev/null"}]},
        {"mounts": [{"source": "/a", "target": "relative"}]},
        {"mounts": [{"source": "/a", "target": "/b", "writable": "yes"}]},
        {"mounts": [{"source": "/a", "target": "/b"}, {"source": "/c", "target": "/b/c"}]},
        {"mounts": [{"source": "/a", "target": "/b"}, {"source": "/c", "target": "/b"}]},
        {"mounts": {}},
        {"mounts": ["/a"]},
        {"require_cgroup": 1},
        {"surprise": 1},
    ],
)
def test_what_is_odd_is_refused(changed: dict[str, object]) -> None:
    assert Spec.from_json(json.dumps(GOOD)).uid == 1000
    with pytest.raises(SpecError):
        Spec.from_json(json.dumps({**GOOD, **changed}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"uid": 1}', "[" * 100_000, '{"limits": {"timeout_s": NaN}}'])
def test_what_is_no_specification_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Spec.from_json(text)
