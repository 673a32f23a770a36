"""The chapters about calls and rules; every claim is checked against what the gateway, the disk and the log say."""

from collections.abc import Mapping
from typing import Any

from gateway.demo.scene import ALICE, Scene
from gateway.errors import HearthgateError

PLUGINS = ("notes", "weather", "hostile")
_NOTE = "the hearth burns all night"
_OK = 200


def plugins_apply(scene: Scene) -> None:
    """Register the example plugins by their manifests, and show what each asks for."""
    story = scene.story
    story.chapter("Three plugins apply")
    story.tell("Each brings a manifest: what it is, and what it asks for. Asking gives nothing yet.")
    rows = []
    for plugin_id in PLUGINS:
        made = scene.owner.request("POST", "/v1/plugins", json={"folder": plugin_id})
        asks = scene.owner.request("GET", f"/v1/plugins/{plugin_id}/manifest").body["requested_permissions"]
        rows.append([plugin_id, made.body["status"], "\n".join(_asked(one) for one in asks) or "nothing"])
        story.check(f"{plugin_id} is registered", made.status == 201 and made.body["status"] == "registered")  # noqa: PLR2004
    story.table(["plugin", "status", "asks for"], rows)
    status, body = _problem(scene, "notes")
    story.check("and may not run yet", status == 409, problem=body)  # noqa: PLR2004 (what the contract promises)


def owner_approves(scene: Scene) -> None:
    """Approve them; show the lines that this added to grants.csv."""
    story = scene.story
    story.chapter("A person approves")
    for plugin_id in PLUGINS:
        done = scene.owner.request("POST", f"/v1/plugins/{plugin_id}/approve", json={"reason": "for the demo"})
        story.check(f"{plugin_id} is active", done.body["status"] == "active", answer=done.body)
    story.tell("The approval became lines of policies/grants.csv. Delete a line and the right is gone.")
    lines = (scene.home / "policies" / "grants.csv").read_text("utf-8").splitlines()
    granted = [line for line in lines if line.startswith("p,")]
    for line in granted:
        story.show(line)
    story.check("the grants are lines of a file", bool(granted), lines=granted)
    made = scene.owner.request("POST", "/v1/keys", json={"user": ALICE, "scopes": ["execute", "evaluate"]})
    scene.state["key"] = made.body["key"]
    story.check("alice has a key", bool(made.body["key"]), key_id=made.body["id"])


def allowed_call(scene: Scene) -> None:
    """Show a call that is allowed, all the way."""
    story = scene.story
    story.chapter("A call that is allowed")
    story.show(f'POST /v1/plugins/notes/execute   {{"action": "remember", "text": "{_NOTE}"}}   as alice')
    status, body = scene.run_as_alice("notes", {"action": "remember", "text": _NOTE})
    story.check("notes remembers", status == _OK and body.get("success") is True, answer=body)
    status, body = scene.run_as_alice("notes", {"action": "recall", "word": "hearth"})
    story.check(f"and finds it again: {body.get('output')}", body.get("output") == [_NOTE], answer=body)
    story.tell("What was decided before it ran, newest last:")
    records = _decisions(scene, "notes", effect="allow")
    story.table(["asked by", "may it", "answer", "rule", "risk"], [_row(record) for record in records])
    story.check("each step was decided and recorded", len(records) >= 4, records=len(records))  # noqa: PLR2004 (two calls)


def refused_call(scene: Scene) -> None:
    """Show a call that is refused, with its reason."""
    story = scene.story
    story.chapter("A call that is refused")
    story.tell("The diary is alice's. The grant asks for her consent, and she has not given it.")
    story.show('POST /v1/plugins/notes/execute   {"action": "diary_summary"}   as alice')
    _status, body = scene.run_as_alice("notes", {"action": "diary_summary"})
    decision = _decisions(scene, "notes", effect="deny")[-1]["decision"]
    story.show(f"{body.get('outcome')}: {_first_line(body.get('error'))}", style="yellow")
    story.check("the plugin got no diary", body.get("success") is False and body.get("output") is None, answer=body)
    miss = (decision["near_misses"] or [{}])[0]
    story.check(
        f"the log says why: {decision['reason']}; {miss.get('file')}:{miss.get('line')} wants {miss.get('unmet')}",
        decision["reason"] == "consent_required" and miss.get("unmet") == ["consent"],
        decision=decision,
    )


def edited_rule(scene: Scene) -> None:
    """Edit a rules file on disk: the same call is answered otherwise, without a restart."""
    story, service = scene.story, scene.service.address
    story.chapter("A rule is edited")
    call = {"action": "forecast", "city": "Hamburg", "upstream": f"http://{service}"}
    story.tell(f"weather may ask api.weather.test. Today's service is at {service}, on this machine.")
    _status, body = scene.run_as_alice("weather", call)
    decision = _decisions(scene, "weather", effect="deny")[-1]["decision"]
    refused = body.get("success") is False and decision["reason"] == "no_rule" and decision["scope"] == service
    story.check("refused: no rule names that address", refused, answer=body, decision=decision)
    story.check("the service has not heard of it", not scene.service.asked, asked=scene.service.asked)
    before = scene.policy()["generation"]
    line = f"p, our-weather, plugin:weather, network, read, {service}, -, allow, our own weather service"
    story.tell("A person adds a line and saves:")
    story.show(f"policies/rules/60-weather.csv: {line}", style="green")
    (scene.rules / "60-weather.csv").write_text(f"{line}\n", "utf-8")
    policy, waited = scene.wait_for_policy(lambda policy: policy["generation"] > before)
    story.check(
        f"in force after {waited:.1f} s: generation {before} became {policy['generation']}, nothing was restarted",
        policy["generation"] > before,
        policy=policy,
    )
    _status, body = scene.run_as_alice("weather", call)
    story.check(f"the same call is answered now: {body.get('output')}", body.get("success") is True, answer=body)
    story.check("the service was asked, once", len(scene.service.asked) == 1, asked=scene.service.asked)
    scene.state["generation"] = str(policy["generation"])


def broken_file(scene: Scene) -> None:
    """Break the file: the last good policy stays, and the problem is named."""
    story = scene.story
    story.chapter("A slip of the pen")
    file = scene.rules / "60-weather.csv"
    good = file.read_text("utf-8")
    slip = "p, our-notes, plugin:notes, vault, raed, notes/*, -, alow, oops"
    story.tell("The next line has two typos:")
    story.show(f"policies/rules/60-weather.csv: {slip}", style="red")
    file.write_text(f"{good}{slip}\n", "utf-8")
    policy, _waited = scene.wait_for_policy(lambda policy: bool(policy["problems"]))
    for problem in policy["problems"]:
        story.show(f"{problem['file']}:{problem['line']}: {problem['message']}", style="yellow")
    places = {(problem["file"], problem["line"]) for problem in policy["problems"]}
    story.check(
        "both are named, with file and line", ("rules/60-weather.csv", 2) in places, problems=policy["problems"]
    )
    kept = str(policy["generation"]) == scene.state["generation"]
    story.check(f"the last good policy stays in force: generation {policy['generation']}", kept, policy=policy)
    call = {"action": "forecast", "city": "Hamburg", "upstream": f"http://{scene.service.address}"}
    _status, body = scene.run_as_alice("weather", call)
    story.check("calls go on under it", body.get("success") is True, answer=body)
    file.write_text(good, "utf-8")
    policy, _waited = scene.wait_for_policy(lambda policy: not policy["problems"])
    story.check("the line is taken out, and all is well again", not policy["problems"], policy=policy)


def _asked(one: Mapping[str, Any]) -> str:
    conditions = one.get("conditions") or {}
    return f"{one['permission']} {one.get('scope')}" + (f"  if {', '.join(conditions)}" if conditions else "")


def _problem(scene: Scene, plugin_id: str) -> tuple[int, str]:
    try:
        scene.owner.request(
            "POST", f"/v1/plugins/{plugin_id}/execute", json={"payload": {"action": "recall", "word": ""}}
        )
    except HearthgateError as error:
        return error.status, str(error)
    return _OK, ""


def _decisions(scene: Scene, plugin_id: str, *, effect: str) -> list[dict[str, Any]]:
    """Give the newest decisions about a plugin, the newest last."""
    params = {"plugin": plugin_id, "effect": effect, "limit": 20}
    records = scene.owner.request("GET", "/v1/audit", params=params).body["records"]
    return [
        record for record in reversed(records) if record["decision"] is not None and record["decision"]["user"] == ALICE
    ]


def _row(record: Mapping[str, Any]) -> list[str]:
    decision = record["decision"]
    rule = decision["rule"]
    return [
        decision["subject"],
        f"{decision['permission']} {decision['scope']}",
        decision["effect"],
        f"{rule['id']} ({rule['file']}:{rule['line']})" if rule else decision["reason"],
        f"{decision['risk']['score']} {decision['risk']['tier']}",
    ]


def _first_line(text: object) -> str:
    return str(text).splitlines()[0] if text else ""
