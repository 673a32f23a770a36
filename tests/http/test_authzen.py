"""AuthZEN: a client's own words are answered by the same rules, advisory, and tell no more than they may."""

from typing import Any

import pytest

Home = Any  # what conftest.py gives
MakeHome = Any
Json = Any
RULES = """\
p, door-open,   group:staff,  door,  open,          *,         -,                            allow, staff open doors
p, door-night,  group:staff,  door,  open,          north/*,   context.night == true,        deny,  not at night
p, door-paint,  group:staff,  door,  paint,         *,         resource.colour == red,       allow, red ones are painted
p, door-knock,  robot:r2,     door,  *,             *,         action.name in knock|ring,    allow, they knock and ring
p, door-once,   group:staff,  door,  ring,          *,         rate(1/3600s),                allow, one ring an hour
p, see-people,  group:staff,  user,  can_see,       *,         -,                            allow, staff see people
p, all-audit,   role:admin,   *,     inspect,       *,         -,                            allow, admins inspect
p, plug-notes,  plugin:notes, vault, read,          notes/*,   consent,                      allow, notes
p, keyed,       key:abc,      door,  open,          *,         -,                            allow, a key
"""
ROLES = "g, user:sam, group:staff\ng, user:kim, group:staff\ng, robot:r2, group:machines\n"
ENTITIES = '[user.sam]\nshoes = "red"\n[door.front]\ncolour = "red"\n[door.back]\ncolour = "blue"\n'


@pytest.fixture
def house(make_home: MakeHome) -> Home:
    home = make_home(rules=RULES, opened=False)
    with (home.folder / "policies" / "roles.csv").open("a") as roles:
        roles.write(ROLES)
    (home.folder / "policies" / "entities.toml").write_text(ENTITIES)
    return home.open()


def question(subject: str, action: str, resource: str, **more: Json) -> dict[str, Any]:
    (kind, name), (other, what) = subject.split(":", 1), resource.split(":", 1)
    return {
        "subject": {"type": kind, "id": name},
        "action": {"name": action},
        "resource": {"type": other, "id": what},
        **more,
    }


def answer(home: Home, asked: dict[str, Any]) -> bool:
    got = home.owner.post("/access/v1/evaluation", asked)
    assert got.status_code == 200, got.text
    assert got.json().keys() == {"decision"}
    decided: bool = got.json()["decision"]
    return decided


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (question("user:sam", "open", "door:front"), True),
        (question("user:nobody", "open", "door:front"), False),
        (question("user:sam", "open", "door:north/1", context={"night": True}), False),
        (question("user:sam", "open", "door:north/1", context={"night": False}), True),
        (question("user:sam", "paint", "door:front"), True),
        (question("user:sam", "paint", "door:back"), False),
        (question("robot:r2", "knock", "door:any text at all"), True),
        (question("robot:r2", "open", "door:front"), False),
        (question("robot:r2 d2/3", "knock", "door:front"), False),
        (question("user:sam", "can_see", "user:kim@example.com"), True),
        (question("user:kim", "can_fire", "user:sam"), False),
        (question("role:admin", "inspect", "door:front"), False),
        (question("group:staff", "open", "door:front"), False),
        (question("tier:low", "open", "door:front"), False),
        (question("key:abc", "open", "door:front"), False),
        (question("user:sam", "read", "gateway:policy"), False),
    ],
)
def test_a_question_is_answered_by_the_rules(house: Home, asked: dict[str, Any], *, wanted: bool) -> None:
    assert answer(house, asked) is wanted


def test_what_is_stored_wins_over_what_is_sent(house: Home) -> None:
    sent = question("user:sam", "paint", "door:back")
    sent["resource"]["properties"] = {"colour": "red", "id": "front"}
    assert answer(house, sent) is False
    sent = question("user:sam", "paint", "door:unknown")
    sent["resource"]["properties"] = {"colour": "red"}
    assert answer(house, sent) is True
    sent["context"] = {"resource": {"colour": "red"}}
    del sent["resource"]["properties"]
    assert answer(house, sent) is False


def test_an_evaluation_is_recorded_and_uses_nothing_up(house: Home) -> None:
    for _ in range(3):
        assert answer(house, question("user:sam", "ring", "door:front")) is True
    asked = house.decided(subject="user:sam", kind="door")
    assert [each["dry_run"] for each in asked] == [True] * 3


def test_the_decisions_id_is_in_a_header_and_reasons_only_where_asked_for(house: Home) -> None:
    got = house.owner.post(
        "/access/v1/evaluation", question("user:sam", "open", "door:front", context={"explain": True})
    )
    told = got.json()["context"]
    assert told["decision_id"] == got.headers["x-decision-id"]
    assert (told["reason"], told["rule"]["id"]) == ("rule", "door-open")
    assert house.decision(told["decision_id"])["effect"] == "allow"


def test_a_plugin_is_ours_and_its_user_may_be_named(house: Home) -> None:
    asked = question("plugin:notes", "read", "vault:notes/a")
    asked["subject"]["properties"] = {"user": "sam"}
    assert answer(house, asked) is False
    assert house.decided(subject="plugin:notes")[-1]["user"] == "sam"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {}),
        ([], {}),
        ({**question("user:sam", "open", "door:front"), "subject": {"type": "user"}}, {}),
        ({**question("user:sam", "open", "door:front"), "subject": {"type": "user", "id": 7}}, {}),
        ({**question("user:sam", "open", "door:front"), "action": {}}, {}),
        (question("us er:sam", "open", "door:front"), {}),
        (question("user:sam", "open", "7door:front"), {}),
        (question("user:sam", "open", "door:fr*nt"), {}),
        (question("user:sam", "open", "file:../etc"), {}),
        (question("user:sam", "open", "door:front"), {"content-type": "text/plain"}),
    ],
)
def test_what_cannot_be_understood_is_400(house: Home, body: Json, headers: dict[str, str]) -> None:
    got = house.owner.ask("POST", "/access/v1/evaluation", body, headers=headers)
    assert got.status_code == 400, got.text
    assert got.headers["content-type"].startswith("application/problem+json")


def test_unknown_members_are_passed_over(house: Home) -> None:
    asked = question("user:sam", "open", "door:front", options={"a": 1}, more=[1])
    asked["subject"]["more"] = 1
    assert answer(house, asked) is True


def test_the_id_of_a_request_comes_back_whatever_the_answer(house: Home) -> None:
    for person, status in ((house.owner, 200), (house.stranger, 401)):
        got = person.ask(
            "POST", "/access/v1/evaluation", question("user:sam", "open", "door:front"),
            headers={"x-request-id": "Ab-1.2_3"},
        )  # fmt: skip
        assert (got.status_code, got.headers["x-request-id"]) == (status, "Ab-1.2_3")
    assert "www-authenticate" in got.headers


def test_who_may_not_ask_about_somebody_is_refused_for_known_and_unknown_alike(house: Home) -> None:
    kim = house.person("kim", "evaluate")
    assert kim.post("/access/v1/evaluation", question("user:kim", "open", "door:front")).json() == {"decision": True}
    for subject in ("user:sam", "user:none", "robot:r2", "role:admin", "robot:a b/../c"):
        got = kim.post("/access/v1/evaluation", question(subject, "open", "door:front"))
        assert got.status_code == 403, subject
    assert kim.post("/access/v1/search/subject", {**question("user:-", "open", "door:front")}).status_code == 403
    assert kim.post("/access/v1/search/resource", question("user:sam", "open", "door:-")).status_code == 403
    own = kim.post("/access/v1/search/resource", question("user:kim", "open", "door:-"))
    assert own.json() == {"results": [{"type": "door", "id": "front"}, {"type": "door", "id": "back"}]}
    agent = house.person("kim", "execute")
    assert agent.post("/access/v1/evaluation", question("user:kim", "open", "door:front")).status_code == 403


SEVERAL = {"subject": {"type": "user", "id": "sam"}, "action": {"name": "paint"}}
FRONT, BACK = ({"resource": {"type": "door", "id": name}} for name in ("front", "back"))


@pytest.mark.parametrize(
    ("semantic", "asked", "wanted"),
    [
        (None, [FRONT, BACK, FRONT], [True, False, True]),
        ("execute_all", [FRONT, BACK, FRONT], [True, False, True]),
        ("deny_on_first_deny", [FRONT, BACK, FRONT], [True, False]),
        ("permit_on_first_permit", [BACK, FRONT, BACK], [False, True]),
        ("permit_on_first_permit", [BACK, BACK], [False, False]),
        (None, [{"action": {"name": "open"}, **BACK}], [True]),
    ],
)
def test_several_are_answered_as_far_as_the_semantic_says(
    house: Home, semantic: str | None, asked: list[Any], wanted: list[bool]
) -> None:
    options = {} if semantic is None else {"options": {"evaluations_semantic": semantic}}
    got = house.owner.post("/access/v1/evaluations", {**SEVERAL, **options, "evaluations": asked})
    assert got.json() == {"evaluations": [{"decision": each} for each in wanted]}


def test_a_broken_one_among_several_is_false_and_says_why_in_its_place(house: Home) -> None:
    asked = [FRONT, {"resource": {"type": "door"}}, 7, {**FRONT, "subject": {"type": "user"}}]
    got = house.owner.post("/access/v1/evaluations", {**SEVERAL, "evaluations": asked})
    first, *others = got.json()["evaluations"]
    assert first == {"decision": True}
    for each in others:
        assert each["decision"] is False
        assert each["context"]["error"]["status"] == 400
    assert "resource.id" in others[0]["context"]["error"]["message"]


def test_none_among_several_is_the_one_beside_them(house: Home) -> None:
    nothing: tuple[dict[str, Json], ...] = ({}, {"evaluations": []})
    for more in nothing:
        got = house.owner.post("/access/v1/evaluations", {**question("user:sam", "open", "door:front"), **more})
        assert got.json() == {"decision": True}
    assert house.owner.post("/access/v1/evaluations", {}).status_code == 400
    many = house.owner.post("/access/v1/evaluations", {**SEVERAL, "evaluations": [FRONT] * 101})
    assert many.status_code == 400
    wrong = {**SEVERAL, "evaluations": [FRONT], "options": {"evaluations_semantic": "some"}}
    assert house.owner.post("/access/v1/evaluations", wrong).status_code == 400


@pytest.mark.parametrize(
    ("sought", "asked", "wanted"),
    [
        ("subject", question("user:-", "open", "door:front"), ["sam", "kim"]),
        ("subject", question("robot:-", "ring", "door:front"), ["r2"]),
        ("subject", question("role:-", "inspect", "door:front"), []),
        ("subject", question("user:-", "open", "gateway:policy"), []),
        ("resource", question("user:sam", "paint", "door:-"), ["front"]),
        ("resource", question("user:sam", "paint", "window:-"), []),
        ("resource", question("user:unknown", "paint", "door:-"), []),
        ("action", question("user:sam", "-", "door:front"), ["open", "paint", "ring"]),
        ("action", question("robot:r2", "-", "door:front"), ["knock", "ring"]),
        ("action", question("user:sam", "-", "user:kim"), ["can_see"]),
        ("action", question("user:sam", "-", "nothing:kim"), []),
    ],
)
def test_a_search_names_what_is_known_and_allowed(
    house: Home, sought: str, asked: dict[str, Any], wanted: list[str]
) -> None:
    member = "name" if sought == "action" else "id"
    if sought == "action":
        del asked["action"]
    got = house.owner.post(f"/access/v1/search/{sought}", asked)
    assert got.status_code == 200, got.text
    assert got.json().keys() == {"results"}
    assert [each[member] for each in got.json()["results"]] == wanted


def test_pages_follow_each_other_and_a_token_is_of_one_search_alone(house: Home) -> None:
    asked = question("user:sam", "-", "door:front")
    del asked["action"]
    found, token, pages = [], "", 0
    while True:
        page: dict[str, Json] = {"limit": 2, "token": token} if token else {"limit": 2}
        one = house.owner.post("/access/v1/search/action", {**asked, "page": page}).json()
        found += [each["name"] for each in one["results"]]
        assert one["page"]["total"] == 3
        token, pages = one["page"]["next_token"], pages + 1
        if not token:
            break
        last = token
    assert (found, pages) == (["open", "paint", "ring"], 2)
    other = question("user:kim", "-", "door:front")
    for token, body in ((last, other), ("x", asked), ("eA", asked)):
        got = house.owner.post("/access/v1/search/action", {**body, "page": {"token": token}})
        assert got.status_code == 400, token
    rest = house.owner.post("/access/v1/search/action", {**asked, "page": {"token": last}}).json()
    assert rest["results"] == [{"name": "ring"}]


def test_a_search_is_recorded(house: Home) -> None:
    house.owner.post("/access/v1/search/subject", question("user:-", "open", "door:front"))
    found = [row["details"] for row in house.records(event_type="access_granted") if "search" in row["details"]]
    assert [(each["search"], each["kind"], each["results"]) for each in found] == [("subject", "door", 2)]


def test_the_metadata_names_every_endpoint_under_the_address_that_is_set(make_home: MakeHome) -> None:
    home = make_home(settings='[http]\npublic_url = "https://pdp.example.com/gate"\n')
    told = home.stranger.get("/.well-known/authzen-configuration").json()
    assert told["policy_decision_point"] == "https://pdp.example.com/gate"
    assert told["access_evaluation_endpoint"] == "https://pdp.example.com/gate/access/v1/evaluation"
    assert None not in told.values()


def test_a_lockdown_and_a_lost_log_hold_for_evaluations(house: Home) -> None:
    house.owner.post("/v1/lockdown", {"scope": "user:sam", "reason": "test"})
    assert answer(house, question("user:sam", "open", "door:front")) is False
    assert answer(house, question("user:kim", "open", "door:front")) is True
