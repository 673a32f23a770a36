"""The published shape of cases takes what is taken as one, and refuses what is refused for its shape."""

import json
import tomllib
from datetime import datetime
from typing import Any

import jsonschema
import pytest

from gateway.policy.case_file import parse_cases
from gateway.policy.case_schema import case_schema
from gateway.policy.problems import Problems
from tests.policy.conftest import STARTER
from tests.policy.test_cases import ROWS, case

GOOD = case("diary", 'at = "2026-11-23T09:30:00Z"', "allow", 'rule = "diary"')
BAD = {
    "an unknown member": GOOD + "twice = true\n",
    "no name": GOOD.replace('name = "diary"', ""),
    "no question": "\n".join(line for line in GOOD.splitlines() if not line.startswith("ask")),
    "a question without a scope": GOOD.replace(', scope = "user_data/diary"', ""),
    "another answer": GOOD.replace('"allow"', '"maybe"'),
    "another reason": GOOD + 'reason = "because"\n',
    "an unknown fact": GOOD.replace("at = ", "when = "),
    "a risk beyond all": GOOD.replace("at = ", "risk = 101, at = "),
    "a consent to nothing": GOOD.replace("at = ", 'consents = ["vault_read"], at = '),
    "grants perhaps": GOOD + 'with_grants = "yes"\n',
    "use that is no number": GOOD.replace("at = ", 'used = { diary = "4" }, at = '),
    "another table": GOOD.replace("[[case]]", "[[cases]]"),
}


def fits(text: str) -> bool:
    def spell(value: object) -> str:
        assert isinstance(value, datetime)
        return value.isoformat()

    content: Any = json.loads(json.dumps(tomllib.loads(text), default=spell))
    return jsonschema.Draft202012Validator(case_schema()).is_valid(content)


def is_taken(text: str) -> bool:
    problems = Problems()
    parse_cases({"tests/x.toml": text.encode()}, problems)
    return problems.sorted() == ()


@pytest.mark.parametrize("row", ROWS)
def test_what_is_a_case_fits(row: tuple[str, str, str, str]) -> None:
    assert is_taken(case(*row))
    assert fits(case(*row))


@pytest.mark.parametrize("file", sorted(path.name for path in (STARTER / "tests").iterdir()))
def test_the_starter_policys_own_cases_fit(file: str) -> None:
    assert fits((STARTER / "tests" / file).read_text())


@pytest.mark.parametrize("fault", BAD)
def test_what_is_none_does_not(fault: str) -> None:
    assert is_taken(GOOD)
    assert fits(GOOD)
    assert not is_taken(BAD[fault])
    assert not fits(BAD[fault])
