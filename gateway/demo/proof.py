"""The last chapters: the hostile plugin, and the log taken away and proven."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.audit.verify import verify_file
from gateway.demo.scene import Scene

_ENOUGH_DEEDS = 10
_BY_POLICY = re.compile(r"^PermissionDenied: denied: (\w+)")
_BY_KERNEL = re.compile(r"^\w+: (E[A-Z]+): ")
_ERROR_NAME = re.compile(r"^\w+: (\[Errno -?\d+\] )?")
_KERNEL_WORDS = {
    "ENOENT": "there is no such file in there",
    "EACCES": "no access",
    "EPERM": "not permitted",
    "ENOSYS": "no such system call",
    "EAFNOSUPPORT": "no sockets",
    "ESRCH": "no other process to be seen",
}


def hostile_plugin(scene: Scene) -> None:
    """Run the hostile plugin; show what it tried and what held it."""
    story = scene.story
    story.chapter("A hostile plugin")
    story.tell("It asked for little, was approved, and runs like any other. Then it tries what no plugin may do:")
    _status, body = scene.run_as_alice("hostile", {"action": "attack"})
    deeds: list[Mapping[str, Any]] = (body.get("output") or {}).get("deeds") or []
    story.table(["it tried to", "held by"], [[deed["deed"], _held_by(deed["by"])] for deed in deeds])
    done = [deed for deed in deeds if deed["held"] is not True]
    story.check(f"{len(deeds)} deeds were tried", len(deeds) >= _ENOUGH_DEEDS, answer=body)
    story.check("none was done", not done, done=done)
    denied = _denied_asks(scene, "hostile")
    story.check(f"what it asked the gateway for was denied and is in the log: {len(denied)} times", len(denied) > 1)
    _status, body = scene.run_as_alice("hostile", {"action": "bomb"})
    story.check(f"it eats memory: {body.get('outcome')}", body.get("outcome") in {"killed", "failed"}, answer=body)
    _status, body = scene.run_as_alice("hostile", {"action": "stay"}, timeout_s=1.0)
    story.check(f"it never returns: {body.get('outcome')} after 1 s", body.get("outcome") == "timed_out", answer=body)
    running = scene.owner.request("GET", "/v1/plugins/hostile").body["running"]
    story.check("nothing of it is left running", running == 0, running=running)


def _denied_asks(scene: Scene, plugin_id: str) -> list[str]:
    params = {"plugin": plugin_id, "effect": "deny", "limit": 100}
    records = scene.owner.request("GET", "/v1/audit", params=params).body["records"]
    return [record["decision"]["permission"] for record in records]


def _held_by(text: str) -> str:
    """Say in a few words what held a deed, from what the plugin was told."""
    policy = _BY_POLICY.search(text)
    if policy:
        return f"the policy: {policy[1]}"
    kernel = _BY_KERNEL.search(text)
    words = _KERNEL_WORDS.get(kernel[1], kernel[1]) if kernel else _ERROR_NAME.sub("", text)[:60]
    return f"the sandbox: {words}"


def proven_log(scene: Scene) -> None:
    """Export the log, verify the file alone, and show that a changed one is found out."""
    story = scene.story
    story.chapter("The proof")
    export, key = scene.folder / "log.jsonl", scene.home / "data" / "keys" / "log.pub"
    lines = list(scene.owner.stream_lines("/v1/audit/export", params={"format": "jsonl"}))
    export.write_bytes(b"".join(lines))
    story.show(f"hearthgate audit export --format jsonl -o log.jsonl     {len(lines)} records")
    story.show("hearthgate audit verify log.jsonl --key log.pub")
    told = verify_file(export, key=key.read_text("utf-8"))
    proven = told.ok and told.complete and told.signer_checked
    story.check("the file proves itself: signed, whole, unchanged", proven, verification=told.as_json())
    line = _forge(lines, scene.folder / "forged.jsonl")
    story.tell(f"Now somebody turns the refusal in line {line} into an approval:")
    findings = [str(one) for one in verify_file(scene.folder / "forged.jsonl", key=key.read_text("utf-8")).findings]
    story.show(findings[0] if findings else "nothing found", style="yellow")
    story.check("and is found out", bool(findings) and findings[0].startswith(f"line {line} "), findings=findings)


def _forge(lines: list[bytes], forged: Path) -> int:
    """Write a copy in which the first denial is an allow; give its line's number."""
    at = next(i for i, line in enumerate(lines) if (json.loads(line)["decision"] or {}).get("effect") == "deny")
    changed = lines[at].replace(b'"deny"', b'"allow"').replace(b'"denied"', b'"allowed"')
    forged.write_bytes(b"".join([*lines[:at], changed, *lines[at + 1 :]]))
    return at + 1
