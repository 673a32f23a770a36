"""Every event validates against the published schema, and says of the record what the record says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.domain.decision import Effect
from gateway.domain.record import CATEGORY_OF, Record, Resolution

TESTDATA = Path(__file__).parents[2] / "testdata" / "ocsf"
SCHEMA = json.loads((TESTDATA / "ocsf-1.8.0.schema.json").read_text())
CLASSES = {
    each["properties"]["class_uid"]["const"]: name
    for name, each in SCHEMA["$defs"].items()
    if name.startswith("class_")
}
VALIDATORS = {
    uid: Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}) for uid, name in CLASSES.items()
}


def problems(event: dict[str, Any]) -> list[str]:
    return [f"{each.json_path}: {each.message}" for each in VALIDATORS[event["class_uid"]].iter_errors(event)]


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.split(b"\n") if line]


def test_the_validation_accepts_the_sample_and_refuses_a_spoilt_one() -> None:
    sample = json.loads((TESTDATA / "ocsf-sample-event.json").read_text())
    assert problems(sample) == []
    assert problems({**sample, "type_uid": 1}) != []
    assert problems({**sample, "surprise": 1}) != []
    assert problems({name: value for name, value in sample.items() if name != "actor"}) != []


@pytest.mark.parametrize("bare", [False, True], ids=["full", "bare"])
@pytest.mark.parametrize("risk", [0, 90])
@pytest.mark.parametrize("event_type", sorted(CATEGORY_OF))
def test_every_event_type_validates(
    *, event_type: str, risk: int, bare: bool, record: Callable[..., Record], export: Callable[..., Any]
) -> None:
    more = {} if bare else {"plugin_id": "notes", "user_id": "alice", "trace_id": "4bf9", "details": {"a": {"b": 1}}}
    made = record(event_type=event_type, risk_score=risk, **more)
    data, _ = export("ocsf", made)
    found = events(data)
    assert found
    for event in found:
        assert problems(event) == []
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["metadata"]["event_code"] == event_type


# What every record of a category is, but for those that are named.
CLASS_OF = {"lifecycle": 6002, "permission": 6003, "execution": 6003, "security": 2004, "policy": 6003, "system": 6002}
ELSEWHERE = {
    "segment_closed": 6003,
    "segment_dropped": 6003,
    "requests_refused": 6003,
    "access_denied": 6003,
    "key_added": 6003,
    "key_revoked": 6003,
    "key_rotated": 6003,
    "redaction": 6003,
    "code_reviewed": 6003,
    "permission_violation": 2004,
    "exported": 6003,
}


def test_every_event_type_has_its_class_and_validates_however_it_ended(
    record: Callable[..., Record], export: Callable[..., Any]
) -> None:
    made = [record(event_type=name, resolution=each) for name in sorted(CATEGORY_OF) for each in Resolution]
    data, _ = export("ocsf", *made)
    found = events(data)
    assert len(found) == len(made)
    for event, of in zip(found, made, strict=True):
        name = of.event_type
        assert problems(event) == [], name
        assert event["class_uid"] == ELSEWHERE.get(name, CLASS_OF[CATEGORY_OF[name]]), name
        assert event["category_uid"] == event["class_uid"] // 1000


TEXT = st.text(max_size=30)
DETAILS = st.dictionaries(
    TEXT | st.sampled_from(["why", "reason", "permission", "scope", "plugin_id", "error", "batch", "step"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def test_whatever_its_details_say_an_event_validates(record: Callable[..., Record], export: Callable[..., Any]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(DETAILS, DETAILS, st.sampled_from(sorted(CATEGORY_OF))), min_size=1, max_size=12))
    def check(said: list[tuple[dict[str, Any], dict[str, Any], str]]) -> None:
        data, _ = export(
            "ocsf",
            *(
                record(event_type=name, details=details, personal=personal, risk_score=number * 7)
                for number, (details, personal, name) in enumerate(said)
            ),
        )
        assert [problem for event in events(data) for problem in problems(event)] == []

    check()


@pytest.mark.parametrize("effect", list(Effect))
def test_a_decision_is_api_activity_with_its_policy(
    effect: Effect, decided: Callable[..., Record], export: Callable[..., Any]
) -> None:
    data, _ = export("ocsf", decided(effect=effect))
    (event,) = events(data)
    assert problems(event) == []
    assert event["class_uid"] == 6003
    assert event["action_id"] == (1 if effect is Effect.ALLOW else 2)
    assert event["policy"] == {
        "uid": "notes-diary",
        "name": "notes read notes",
        "desc": "rules/20-vault.csv:14",
        "version": "sha256:00",
        "is_applied": True,
    }
    assert event["resources"] == [{"name": "user_data/diary", "type": "vault"}]
    assert event["actor"]["user"]["name"] == "alice"


def test_high_risk_gives_a_finding_beside_the_event(record: Callable[..., Record], export: Callable[..., Any]) -> None:
    data, written = export("ocsf", record(event_type="execution_failed", risk_score=80))
    event, finding = events(data)
    assert (event["class_uid"], finding["class_uid"]) == (6003, 2004)
    assert finding["finding_info"]["related_events"] == [
        {"uid": event["metadata"]["uid"], "type_uid": event["type_uid"]}
    ]
    assert written.tally.rows == 1


def test_redacted_and_erased_values_leave_valid_events(
    decided: Callable[..., Record], export: Callable[..., Any]
) -> None:
    fields = frozenset({"user_id", "scope", "near_misses", "replay", "details"})
    data, _ = export("ocsf", decided(), redacted=fields)
    (event,) = events(data)
    assert problems(event) == []
    assert b"alice" not in data
    assert b"diary" not in data.replace(b"notes-diary", b"")
    assert event["unmapped"]["masked"] == ["/decision/scope", "/decision/user", "/replay", "/user_id"]
