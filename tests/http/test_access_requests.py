"""Requests for what an evaluation denied: bound to that denial, answered by people, and never by who asks."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.decision import timestamp
from gateway.flows.access_request import REQUESTABLE_FOR
from gateway.registry import call_approvals

if TYPE_CHECKING:
    import httpx

    from tests.conftest import Home, MakeHome, Person

RULES = """\
p, doc-read,  user:sam,   document, can_read, *,        approval, allow, a person looks at it
p, doc-kim,   user:kim,   document, can_read, *,        approval, allow, a person looks at it
p, doc-edit,  user:sam,   document, edit,     *,        -,        deny,  nobody edits
p, pep-asks,  user:kim,   gateway,  execute,  decisions/user:sam, -, allow, kim's program asks for sam
p, pep-looks, user:lee,   gateway,  read,     decisions/user:sam, -, allow, lee may look
p, boss-yes,  user:bob,   gateway,  admin,    decisions/*, -,     allow, bob answers
p, boss-own,  user:sam,   gateway,  admin,    decisions/*, -,     allow, sam would answer as well
p, plug-asks, user:kim,   gateway,  admin,    plugins/puppet, -,  allow, kim runs puppet
p, plug-ask2, user:kim,   gateway,  execute,  decisions/plugin:puppet, -, allow, and asks about it
"""
QUESTION: dict[str, Any] = {
    "subject": {"type": "user", "id": "sam", "properties": {"device": "laptop"}},
    "action": {"name": "can_read"},
    "resource": {"type": "document", "id": "q4-plan"},
    "context": {"place": "home"},
}
PUPPETS: dict[str, Any] = {
    "subject": {"type": "plugin", "id": "puppet"},
    "action": {"name": "write"},
    "resource": {"type": "vault", "id": "notes"},
    "context": {},
}
PATH = "/access/v1/requests"


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    return make_home(rules=RULES)


def explained(who: "Person", question: dict[str, Any] = QUESTION) -> dict[str, Any]:
    context = {**question["context"], "explain": True}
    answer = who.post("/access/v1/evaluation", {**question, "context": context})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def permitted(who: "Person", question: dict[str, Any] = QUESTION, **context: object) -> bool:
    answer = who.post("/access/v1/evaluation", {**question, "context": {**question["context"], **context}})
    assert answer.json().keys() == {"decision"}
    found: bool = answer.json()["decision"]
    return found


def submission(told: dict[str, Any], question: dict[str, Any] = QUESTION, **more: object) -> dict[str, Any]:
    offered = told["context"]["access_request"]
    echoed = {"evaluation_id": told["context"]["evaluation_id"], "reason": told["context"]["reason"]}
    return {**copy.deepcopy(question), "denial": {**echoed, **offered}, **more}


def ask(who: "Person", body: dict[str, Any], key: str | None = None) -> "httpx.Response":
    return who.ask("POST", PATH, body, headers={} if key is None else {"Idempotency-Key": key})


def asked(who: "Person", question: dict[str, Any] = QUESTION, **more: object) -> dict[str, Any]:
    answer = ask(who, submission(explained(who, question), question, **more))
    assert answer.status_code in {201, 202}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sam(home: "Home") -> "Person":
    return home.person("sam", "evaluate")


def bob(home: "Home") -> "Person":
    return home.person("bob", "approve")


def task(who: "Person", told: dict[str, Any]) -> dict[str, Any]:
    answer = who.get(f"{PATH}/{told['task']['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: "httpx.Response", status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:openid:authzen:access-request:error:{code}"


def test_a_denial_that_a_person_can_turn_becomes_a_yes_by_that_person(home: "Home") -> None:
    metadata = home.owner.get("/.well-known/authzen-configuration").json()
    assert metadata["access_request_endpoint"] == f"http://localhost{PATH}"
    assert metadata["capabilities"] == ["urn:openid:authzen:capability:access-request"]
    told = explained(sam(home))
    assert told["decision"] is False
    assert told["context"]["reason"] == "approval_required"
    assert told["context"]["access_request"]["template"] == "call-approval"
    assert home.owner.get("/v1/call-approvals").json()["approvals"] == []
    answer = ask(sam(home), submission(told))
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["task"]["status_endpoint"]
    assert answer.json()["task"]["evaluation_id"] == told["context"]["evaluation_id"]
    assert task(sam(home), answer.json())["task"]["status"] == "pending"
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert waits["args"] == {
        "subject": {"device": "laptop"},
        "action": {},
        "resource": {},
        "context": {"place": "home"},
    }
    assert permitted(sam(home)) is False
    yes = bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen"})
    assert yes.status_code == 200, yes.text
    done = task(sam(home), answer.json())
    assert done["task"]["status"] == "approved"
    approval = done["result"]["approval"]
    assert done["result"]["mode"] == "reevaluate"
    assert (approval["id"], approval["approved_until"]) == (waits["id"], yes.json()["expires_at"])
    # Advisory: asked again and again, it uses nothing up.
    assert [permitted(sam(home), approval=approval) for _ in range(3)] == [True] * 3
    assert explained(sam(home))["context"]["approval"] == {
        "id": waits["id"],
        "approved_until": approval["approved_until"],
    }
    assert home.owner.get("/v1/call-approvals", status="approved").json()["approvals"] != []


@pytest.mark.parametrize(
    "change",
    [
        lambda question: question["subject"].update(id="kim"),
        lambda question: question["subject"]["properties"].update(device="phone"),
        lambda question: question["resource"].update(id="q3-plan"),
        lambda question: question["action"].update(properties={"soft": True}),
        lambda question: question["context"].update(place="train"),
        lambda question: question["context"].update(more=1),
    ],
)
def test_a_yes_is_to_that_question_alone(home: "Home", change: Callable[[dict[str, Any]], None]) -> None:
    kim = home.person("kim", "evaluate")
    told = asked(kim)
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen"}).status_code == 200
    result = task(kim, told)["result"]["approval"]
    other = copy.deepcopy(QUESTION)
    change(other)
    assert permitted(kim, other, approval=result) is False
    assert permitted(kim) is True
    # The same question by somebody else is another one.
    assert permitted(sam(home), approval=result) is False


TOKEN = "binding_token"  # noqa: S105 (a member's name)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["denial"].update(binding_token="x" * 80),
        lambda body: body["denial"].update(binding_token=body["denial"][TOKEN][:-4]),
        lambda body: body["denial"].update(
            binding_token=("B" if body["denial"][TOKEN][0] == "A" else "A") + body["denial"][TOKEN][1:]
        ),
        lambda body: body["resource"].update(id="q3-plan"),
        lambda body: body["context"].update(place="train"),
        lambda body: body["context"].clear(),
        lambda body: body["subject"].pop("properties"),
    ],
)
def test_nothing_else_than_what_was_denied_is_asked_for(home: "Home", change: Callable[[dict[str, Any]], None]) -> None:
    body = submission(explained(sam(home)))
    change(body)
    refused(ask(sam(home), body), 400, "invalid_denial_binding")
    assert home.owner.get("/v1/call-approvals").json()["approvals"] == []


def test_why_it_is_wanted_may_stand_beside_the_question(home: "Home") -> None:
    body = submission(explained(sam(home)))
    body["context"]["business_justification"] = "renewal"
    assert ask(sam(home), body).status_code == 202
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert waits["args"]["context"] == {"place": "home"}


def test_a_denial_is_its_askers_own_and_for_minutes(home: "Home") -> None:
    kim = home.person("kim", "evaluate")
    body = submission(explained(kim))
    refused(ask(sam(home), body), 400, "invalid_denial_binding")
    home.at(datetime.now(UTC) + REQUESTABLE_FOR + timedelta(seconds=1))
    refused(ask(kim, body), 410, "expired_denial")


def test_who_may_only_look_cannot_ask(home: "Home") -> None:
    lee = home.person("lee", "evaluate")
    body = submission(explained(lee))
    assert ask(lee, body).status_code == 403
    assert home.owner.get("/v1/call-approvals").json()["approvals"] == []
    assert ask(home.person("sam", "execute"), submission(explained(sam(home)))).status_code == 403


def test_what_nobody_can_give_is_not_requestable(home: "Home") -> None:
    for action in ("edit", "print"):
        told = explained(sam(home), {**QUESTION, "action": {"name": action}})
        assert told["decision"] is False
        assert "access_request" not in told["context"]


def test_nobody_answers_for_themselves(home: "Home") -> None:
    asked(sam(home))
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    own = home.person("sam", "approve").post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "mine"})
    assert own.status_code == 403
    assert permitted(sam(home)) is False


def test_the_same_again_is_the_same_request(home: "Home") -> None:
    body = submission(explained(sam(home)))
    first = ask(sam(home), body, "key-1").json()
    assert ask(sam(home), body, "key-1").json() == first
    home.reopen()
    assert task(sam(home), first)["task"]["status"] == "pending"
    other = submission(explained(sam(home), {**QUESTION, "resource": {"type": "document", "id": "q3"}}))
    other["resource"]["id"] = "q3"
    refused(ask(sam(home), other, "key-1"), 409, "duplicate_request")
    # Another's key of that name is another key, and without one the same question is one request.
    kim = home.person("kim", "evaluate")
    assert ask(kim, submission(explained(kim)), "key-1").status_code == 202
    again = ask(sam(home), submission(explained(sam(home))))
    assert again.json()["task"]["answered_by"] == first["task"]["answered_by"]
    assert len(home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]) == 2


def test_a_request_is_its_askers_own(home: "Home") -> None:
    told = asked(sam(home))
    kim = home.person("kim", "evaluate", "admin")
    for path in (told["task"]["id"], "none"):
        refused(kim.get(f"{PATH}/{path}"), 404, "unknown_task")
        refused(kim.post(f"{PATH}/{path}/cancel", {}), 404, "unknown_task")
    assert task(sam(home), told)["task"]["status"] == "pending"


def test_a_no_and_the_end_of_time_are_told(home: "Home") -> None:
    told = asked(sam(home))
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert bob(home).post(f"/v1/call-approvals/{waits['id']}/deny", {"reason": "no"}).status_code == 200
    assert task(sam(home), told)["task"]["status"] == "denied"
    refused(sam(home).post(f"{PATH}/{told['task']['id']}/cancel", {}), 409, "invalid_task_state")
    other = asked(sam(home), {**QUESTION, "resource": {"type": "document", "id": "q3"}})
    home.at(datetime.now(UTC) + timedelta(days=2))
    assert task(sam(home), other)["task"]["status"] == "expired"


def test_who_asked_takes_it_back(home: "Home") -> None:
    told = asked(sam(home))
    done = sam(home).post(f"{PATH}/{told['task']['id']}/cancel", {"comment": "not needed"})
    assert done.json()["task"]["status"] == "cancelled"
    assert home.owner.get("/v1/call-approvals", status="pending").json()["approvals"] == []
    assert home.records(event_type="call_approval_denied")[-1]["details"]["why"] == "cancelled by who asked"
    refused(sam(home).post(f"{PATH}/{told['task']['id']}/cancel", {}), 409, "invalid_task_state")


def test_a_socket_set_to_read_takes_nothing_back(make_home: "MakeHome") -> None:
    home = make_home()
    name = home.parts.owner
    home.rules(RULES.replace("user:sam,   document, can_read", f"user:{name}, document, can_read"))
    question = {**QUESTION, "subject": {"type": "user", "id": name}}
    told = asked(home.person(name, "evaluate"), question)
    home.close()
    (home.folder / "hearthgate.toml").write_text('[http]\nsocket = "read"\n')
    home.open()
    assert home.owner.get(f"{PATH}/{told['task']['id']}").json()["task"]["status"] == "pending"
    assert home.owner.post(f"{PATH}/{told['task']['id']}/cancel", {}).status_code == 403
    assert home.person(name, "evaluate").post(f"{PATH}/{told['task']['id']}/cancel", {}).status_code == 200


def test_asking_and_taking_back_for_ever_leaves_no_more_than_a_bound(
    home: "Home", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_approvals, "MOST_ENDED", 5)
    kim = home.person("kim", "evaluate")
    other = asked(kim)
    kim.post(f"{PATH}/{other['task']['id']}/cancel", {})
    for _ in range(12):
        told = asked(sam(home))
        assert sam(home).post(f"{PATH}/{told['task']['id']}/cancel", {}).status_code == 200
    kept = home.owner.get("/v1/call-approvals").json()["approvals"]
    assert len([each for each in kept if each["asked_by"] == "sam"]) <= 6
    assert task(sam(home), told)["task"]["status"] == "cancelled"
    # Who asks for ever pushes out nothing of others.
    assert task(kim, other)["task"]["status"] == "cancelled"


def test_the_approval_of_a_question_dies_with_its_rules(home: "Home") -> None:
    asked(sam(home))
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    home.rules(RULES.replace("a person looks at it", "somebody looks at it"))
    late = bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen"})
    assert late.status_code == 409


def test_a_plugin_gets_a_permission_by_who_may_ask_for_it(home: "Home") -> None:
    home.install("puppet")
    kim = home.person("kim", "evaluate", "admin")
    question = PUPPETS
    told = explained(kim, question)
    assert told["context"]["access_request"]["template"] == "permission-request"
    until = timestamp(datetime.now(UTC) + timedelta(hours=2))
    body = submission(told, question, requested_access={"requested_until": until})
    body["context"]["business_justification"] = "a summary"
    made = ask(kim, body)
    assert made.status_code == 202, made.text
    assert ask(kim, {**body, "denial": submission(explained(kim, question), question)["denial"]}).status_code == 202
    (request,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert (request["reason"], request["requested_by"]) == ("a summary", "kim")
    yes = home.owner.post(f"/v1/permission-requests/{request['id']}/approve", {"reason": "seen"})
    assert yes.status_code == 200, yes.text
    done = task(kim, made.json())
    assert (done["task"]["status"], done["result"]["approval"]["approved_until"]) == ("approved", until)
    assert permitted(kim, question) is True
    # An agent's key has no way to ask for more.
    assert (
        "access_request"
        not in explained(home.person("kim", "evaluate"), {**question, "action": {"name": "write"}})["context"]
    )


def test_several_in_one_are_refused_and_the_rest_of_the_profile_is_passed_over(home: "Home") -> None:
    body = submission(explained(sam(home)), callback={"url": "https://example.com"}, client={"id": "x"})
    assert ask(sam(home), {**body, "items": []}).status_code == 400
    assert ask(sam(home), body).status_code == 202


ROSA = "rosalind-k"
OF_ALL = """\
p, doc-read,  group:users, document, can_read, *,        approval, allow, a person looks at it
p, pep-asks,  user:kim,    gateway,  execute,  decisions/*, -,     allow, kim's program asks for everybody
p, pep-looks, user:kim,    gateway,  read,     decisions/*, -,     allow, and looks
p, plug-asks, user:kim,    gateway,  admin,    plugins/puppet, -,  allow, kim runs puppet
"""


def test_nothing_of_an_erased_person_is_left_of_what_was_asked(make_home: "MakeHome") -> None:
    home = make_home(rules=OF_ALL)
    home.install("puppet")
    rosa, kim = home.person(ROSA, "evaluate"), home.person("kim", "evaluate", "admin")
    of_rosa = {**QUESTION, "subject": {"type": "user", "id": ROSA}, "context": {"place": f"at {ROSA}'s"}}
    own = ask(rosa, submission(explained(rosa, of_rosa), of_rosa), f"key of {ROSA}").json()
    about = {**QUESTION, "subject": {"type": "user", "id": "kim"}, "resource": {"type": "document", "id": f"on/{ROSA}"}}
    about["context"] = {"place": f"a home\n{ROSA}\t{ROSA}", "é": f"é\n{ROSA}"}
    by_others = [
        ask(kim, submission(explained(kim, question), question), f"{ROSA} {number}").json()
        for number, question in enumerate((of_rosa, about))
    ]
    wanted = submission(explained(kim, PUPPETS), PUPPETS)
    wanted["context"]["business_justification"] = f"{ROSA} wants it"
    by_others.append(ask(kim, wanted).json())
    assert [each["task"]["status"] for each in (own, *by_others)] == ["pending"] * 4
    assert any(ROSA.encode() in data for data in home.contents().values())
    done = home.owner.post("/v1/audit/erase", {"user": ROSA, "reason": "asked by letter"})
    assert done.status_code == 200, done.text
    home.close()
    assert [str(file) for file, data in home.contents().items() if ROSA.encode() in data] == []
    home.open()
    assert rosa.get(f"{PATH}/{own['task']['id']}").status_code == 401
    refused(kim.get(f"{PATH}/{by_others[0]['task']['id']}"), 404, "unknown_task")
    assert [task(kim, each)["task"]["status"] for each in by_others[1:]] == ["pending"] * 2
