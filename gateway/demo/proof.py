"""The last chapters: the hostile plugin, and the log taken away and proven."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.audit.verify import verify_file
from gateway.demo.scene import Scene

_ENOUGH_DEEDS = 10


def hostile_plugin(scene: Scene) -> None:
    """Run the hostile plugin; show what it tried and what held it."""
    story = scene.story
    story.chapter("A hostile plugin")
    story.tell("It is approved and runs like any other. It tries what no plugin should be able to do:")
    _status, body = scene.run_as_alice("hostile", {"action": "try_everything"})
    deeds: list[Mapping[str, Any]] = body.get("output") or []
    story.table(["it tried to", "and", "held by"], [[d["deed"], d["result"], d["held_by"]] for d in deeds])
    done = [deed["deed"] for deed in deeds if deed["succeeded"]]
    story.check(f"{len(deeds)} deeds tried", len(deeds) >= _ENOUGH_DEEDS, answer=body)
    story.check("none of them done", not done, done=done)


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
