"""What a query may say: what its route understands, each thing once."""

import re
from typing import TYPE_CHECKING

import pytest

from gateway.http.application import ROUTES
from gateway.http.doors import is_open

if TYPE_CHECKING:
    from tests.conftest import Home

SEARCH = (
    *("plugin", "user", "event_type", "category", "effect", "rule", "min_risk", "since", "until", "q", "limit"),
    *("cursor", "event_id"),
)
UNKNOWN = "is not understood in the query of"


def routes() -> list[tuple[str, str]]:
    found = {(min(each.http_methods), path) for each in ROUTES for path in each.paths}
    return sorted((method, re.sub(r":\w+", "", path)) for method, path in found)


@pytest.mark.parametrize(("method", "path"), routes())
def test_a_word_that_no_route_knows_is_refused_and_the_known_ones_are_told(
    home: "Home", method: str, path: str
) -> None:
    asked = path.format_map(dict.fromkeys(("plugin_id", "request_id", "user_id"), "notes") | Anything())
    answer = home.owner.ask(method, f"{asked}?plugn=x", None if method == "GET" else {})
    if is_open(path):
        assert answer.status_code == 200
        return
    assert answer.status_code == 400, answer.text
    assert f"`plugn` {UNKNOWN}" in answer.json()["detail"]
    assert "reason" in answer.json()["way_out"]


class Anything(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1"

    def __ror__(self, other: dict[str, str]) -> "Anything":
        return Anything({**other, **self})


def test_a_misspelt_filter_exports_nothing(home: "Home") -> None:
    answer = home.owner.ask("GET", "/v1/audit/export?format=jsonl&plugn=notes")
    assert answer.status_code == 400
    assert "plugin" in answer.json()["way_out"]
    assert home.owner.ask("GET", "/v1/audit/export?format=jsonl&plugin=notes").status_code == 200


@pytest.mark.parametrize("name", SEARCH)
def test_every_filter_of_the_search_is_known(home: "Home", name: str) -> None:
    answer = home.owner.ask("GET", f"/v1/audit?{name}=1")
    assert UNKNOWN not in answer.text


def test_what_is_said_twice_is_refused(home: "Home") -> None:
    answer = home.owner.ask("GET", "/v1/audit?plugin=notes&plugin=diary")
    assert (answer.status_code, answer.json()["detail"]) == (400, "`plugin` stands in the query more than once")


def test_a_dry_run_that_is_misspelt_imports_nothing(home: "Home") -> None:
    kept = home.owner.get("/v1/permissions/export").json()
    answer = home.owner.ask("POST", "/v1/permissions/import?dry_rn=true", kept)
    assert answer.status_code == 400
    assert UNKNOWN in answer.json()["detail"]
