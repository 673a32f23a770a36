import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.policy.parse import GrantIds, ParsedPolicy, parse_policy
from gateway.policy.reach import check_reach
from gateway.policy.text import PolicyText

FAULTS = tomllib.loads((Path(__file__).parents[1] / "testdata" / "policy_faults.toml").read_text())["fault"]
IDS = GrantIds(live=frozenset({"grant-1"}), dead=frozenset({"grant-2"}))
Edited = Callable[..., PolicyText]


def told(text: PolicyText) -> list[str]:
    parsed = parse_policy(text, grant_ids=IDS)
    return [str(problem) for problem in (*parsed.problems, *check_reach(parsed))]


def test_the_starter_policy_has_no_error_and_no_warning(starter: ParsedPolicy) -> None:
    assert [str(problem) for problem in (*starter.problems, *check_reach(starter))] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["name"])
def test_every_fault_is_found_at_its_place_and_none_is_invented(fault: dict, edited: Edited) -> None:  # type: ignore[type-arg]
    found = told(edited({fault["file"]: fault["text"]}))
    missing = [want for want in fault["wants"] if not any(line.startswith(want) for line in found)]
    assert missing == [], found
    assert len(found) == len(fault["wants"]), found


def test_every_problem_of_every_file_is_told_at_once(edited: Edited) -> None:
    faults = {fault["file"]: fault for fault in FAULTS if fault["file"] != "conditions.toml"}
    found = told(edited({name: fault["text"] for name, fault in faults.items()}))
    assert {line.split(":")[0] for line in found} >= set(faults)


def test_a_byte_order_mark_is_an_error_and_hides_nothing(edited: Edited) -> None:
    line = b"\xef\xbb\xbfp, a, plugin:notes, vault, read, x, -, Deny, why\n"
    assert told(edited({"rules/90-here.csv": line})) == [
        "rules/90-here.csv:1: begins with a byte order mark: save it as UTF-8 without BOM",
        "rules/90-here.csv:1: effect 'Deny': allow or deny",
    ]


@pytest.mark.parametrize("name", ["rules/90-here.csv", "roles.csv", "conditions.toml", "tests/here.toml"])
def test_bytes_that_are_no_text_are_an_error_at_their_place(name: str, edited: Edited) -> None:
    found = told(edited({name: b"# fine\n# not \xff fine\n"}))
    assert f"{name}:2:7: not UTF-8: save the file as UTF-8" in found


def test_utf_16_is_an_error_and_not_an_empty_file(edited: Edited) -> None:
    assert told(edited({"rules/90-here.csv": "p, a\n".encode("utf-16")}))


@pytest.mark.parametrize("name", ["model.conf", "roles.csv", "risk.toml"])
def test_a_lost_file_is_an_error(name: str, edited: Edited) -> None:
    assert [line.split(":")[0] for line in told(edited({name: None}))] == [name]


def test_a_policy_without_a_rule_is_an_error_even_with_grants(edited: Edited, starter_text: PolicyText) -> None:
    lost = dict.fromkeys(starter_text.rule_files)
    grant = "p, grant-1, plugin:notes, vault, read, a, -, allow, why\n"
    assert any("no rule at all" in line for line in told(edited({**lost, "grants.csv": grant})))


def test_windows_line_ends_are_fine(edited: Edited, starter_text: PolicyText) -> None:
    crlf = {path: data.replace(b"\n", b"\r\n") for path, data in starter_text.files.items()}
    assert told(edited(crlf)) == []


def test_grant_ids_are_unchecked_where_no_registry_is_known(edited: Edited) -> None:
    line = "p, grant-9, plugin:notes, vault, read, a, -, allow, why\n"
    assert parse_policy(edited({"grants.csv": line})).problems == ()


def test_values_are_decoded_and_subjects_stay_as_requests_are_compared(edited: Edited) -> None:
    line = "p, a, robot:r%2C2, todo, read, a%2Cb %25 %C3%A9, context.x == a%3Bb, allow, one%2C two\n"
    parsed = parse_policy(edited({"rules/90-here.csv": line}))
    assert parsed.problems == ()
    rule = parsed.rules[-1]
    assert (rule.subject, rule.scope, rule.why) == ("robot:r%2C2", "a,b % é", "one, two")


def test_the_version_names_exactly_the_bytes(starter_text: PolicyText, edited: Edited) -> None:
    again = PolicyText(dict(reversed(starter_text.files.items())))
    assert again.version == starter_text.version
    assert edited({"roles.csv": b""}).version != edited({"roles.csv": None}).version
    assert PolicyText({"a": b"bc"}).version != PolicyText({"ab": b"c"}).version


def test_rules_files_are_merged_in_name_order_and_grants_come_last(edited: Edited) -> None:
    one, two = (f"p, {name}, plugin:notes, vault, read, {name}, -, allow, why\n" for name in ("a", "b"))
    grant = "p, grant-1, plugin:notes, vault, read, c, -, allow, why\n"
    parsed = parse_policy(edited({"rules/99-b.csv": two, "rules/01-a.csv": one, "grants.csv": grant}))
    ids = [rule.id for rule in parsed.rules]
    assert (ids[0], ids[-2:]) == ("a", ["b", "grant-1"])
