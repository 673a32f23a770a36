"""Every published vector of AuthZEN 1.0 gets its published answer from a live gateway with plain policy files."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

VECTORS = Path(__file__).parents[1] / "testdata" / "authzen"


def vectors(file: str, member: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / file).read_text())[member]
    return found


def endpoint(client: httpx.Client, name: str) -> str:
    """Find an endpoint as a client does: in the metadata, which needs no credential."""
    found: str = httpx.get(f"{client.base_url}/.well-known/authzen-configuration").json()[name]
    return found


def test_each_evaluation_of_the_todo_list_is_as_published(todo: httpx.Client) -> None:
    url = endpoint(todo, "access_evaluation_endpoint")
    asked = vectors("todo-1_0-02.json", "evaluation")
    assert len(asked) == 40
    for each in asked:
        answer = todo.post(url, json=each["request"])
        assert (answer.status_code, answer.json()) == (200, {"decision": each["expected"]}), each["request"]
        assert answer.headers["x-decision-id"]


def test_each_batch_of_the_todo_list_is_as_published_to_the_letter(todo: httpx.Client) -> None:
    url = endpoint(todo, "access_evaluations_endpoint")
    for each in vectors("todo-1_0-02.json", "evaluations"):
        answer = todo.post(url, json=each["request"])
        assert answer.json() == {"evaluations": each["expected"]}


@pytest.mark.parametrize(
    ("file", "member", "sought", "count"),
    [
        ("search-subject.json", "evaluation", "subject", 60),
        ("search-resource.json", "evaluation", "resource", 18),
        ("search-action.json", "evaluation", "action", 120),
        ("idp-search.json", "search", "resource", 6),
    ],
)
def test_each_search_is_as_published_to_the_letter(
    records: httpx.Client, file: str, member: str, sought: str, count: int
) -> None:
    url = endpoint(records, f"search_{sought}_endpoint")
    asked = vectors(file, member)
    assert len(asked) == count
    for each in asked:
        answer = records.post(url, json=each["request"])
        assert (answer.status_code, answer.json()) == (200, each["expected"]), each["request"]
