"""Verbs that write people's policy files, after showing the difference: fmt, add, rollback; and log."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_block, print_table, print_text
from gateway.cli.policy_folder import BY_SHIPPED, checked, known, read, wanted_model
from gateway.errors import ConflictError, PolicyBrokenError, UsageError

if TYPE_CHECKING:
    from gateway.policy.text import PolicyText

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the difference and write nothing.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the log.")]

_UNTIDY = 1
_CASE_FAILED = 4
_OWN_FILE = "rules/90-added.csv"
_GENERATIONS = columns(generation="#generation", by="by", known_by="known_by", at="at", why="why", rules="#rules")
_NEWLY = columns(who="subjects", kind="kind", level="level", scope="scope", from_="from", to="to")


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs that write, and the one that tells what was written."""
    verb(app, "fmt")(fmt)
    verb(app, "add")(add)
    verb(app, "log")(log)
    verb(app, "rollback")(rollback)


def fmt(
    call: Call,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A policies folder; else the home's.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if something is not aligned.")] = False,
) -> None:
    """Align the columns of rules and roles; comments stay.

    Needs no gateway. What the files say stays the same.
    """
    from gateway.policy.layout import difference, lay_out
    from gateway.policy.text import ROLES

    folder = call.home() / "policies" if folder is None else folder
    before = read(folder) if check else _read(folder)
    after = before
    for path in (*before.rule_files, *([ROLES] if ROLES in before.files else [])):
        after = after.with_file(path, lay_out(before.files[path]))
    changed = _changed(before, after)
    if not check:
        _write(folder, before, after)
    told = difference(before, after)
    call.show({"changed": changed, "written": not check, "difference": told}, lambda: _tell(told))
    if check and changed:
        raise typer.Exit(_UNTIDY)


def add(
    call: Call,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A line as in rules/*.csv, with or without `p,`.")],
    file: Annotated[str, typer.Option("--file", metavar="FILE", help="Where, as rules/90-house.csv.")] = _OWN_FILE,
    dry_run: DryRun = False,
    reason: Why = "",
) -> None:
    """Put a rule into a file of rules/ and in force.

    Checked with all other files and their cases first: exit 1 if it is wrong, 4 if a case fails, and nothing changes.
    """
    from gateway.policy.cases import run_cases
    from gateway.policy.encode import add_lines
    from gateway.policy.engine import build_policy_set
    from gateway.policy.layout import difference
    from gateway.policy.text import is_rule_file

    line = rule.strip() if rule.strip().startswith("p,") else f"p, {rule.strip()}"
    if not is_rule_file(file) or "\n" in line or "\r" in line:
        raise UsageError(f"`{file}`: one line, into a file of rules/ that ends in .csv")
    folder = call.home() / "policies"
    before = _read(folder)
    after = before.with_file(file, add_lines(before.files.get(file, b""), [line]))
    found = checked(after, known(call), wanted_model(call.home()))
    if not found.ok:
        raise PolicyBrokenError("with this rule the policy has errors, so nothing was written", problems=found.errors)
    failed = [one for one in run_cases(build_policy_set(found, memberships={}, generation=0)) if not one.passed]
    warnings = [str(one) for one in found.problems if one.place.file == file]
    told = difference(before, after)
    body: dict[str, Any] = {
        "file": file,
        "difference": told,
        "warnings": warnings,
        "written": not dry_run and not failed,
    }
    body["failed"] = [f"{one.file}:{one.line}: {one.name}: {one.message}" for one in failed]
    if body["written"]:
        body |= _put_in_force(
            call, reason or f"policy add: {line}", after.version, lambda: _write(folder, before, after)
        )

    def tell() -> None:
        _tell(told)
        for text in (*warnings, *body["failed"]):
            note(text)
        _tell_reload(body)

    call.show(body, tell)
    if failed:
        raise typer.Exit(_CASE_FAILED)


def log(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many generations.")] = 20,
    difference: Annotated[bool, typer.Option("--diff", help="Show what each changed.")] = False,
) -> None:
    """List the generations of the policy: who, when, why."""
    body = call.ask("GET", "/v1/policy/log", params={"limit": limit})

    def tell() -> None:
        for row in body["generations"] if difference else []:
            print_text(f"generation {row['generation']}  {row['at']}  {row['by']} ({row['known_by']}): {row['why']}")
            print_block(row["difference"] if row["difference"] is not None else "its files are not kept")
        if not difference:
            print_table(_GENERATIONS, body["generations"], empty="no policy was ever in force")

    call.show(body, tell)


def rollback(
    call: Call,
    generation: Annotated[int, typer.Argument(metavar="N", help="A generation of `policy log`.")],
    dry_run: DryRun = False,
    reason: Why = "",
) -> None:
    """Bring back what people wrote for generation N; grants stay as they are.

    Checked with today's grants and cases, and with what it would newly allow shown first.
    """
    from gateway.policy.text import PolicyText

    folder = call.home() / "policies"
    before = _read(folder)
    found = call.ask("GET", f"/v1/policy/generations/{generation}")
    after = PolicyText({path: text.encode(errors="surrogateescape") for path, text in found["files"].items()})
    body: dict[str, Any] = {name: found[name] for name in ("difference", "newly_allows", "tiers", "own_model")}
    body |= {"restored": generation, "written": not dry_run and before.version != after.version}

    def tell() -> None:
        _tell(body["difference"])
        print_table(_NEWLY, body["newly_allows"], empty="it allows nothing that is denied now")
        print_text(*(f"{each['subject']}: tier {each['from']} -> {each['to']}" for each in body["tiers"]))
        if body["own_model"]:
            note(f"the model is the operator's own: {BY_SHIPPED}")

    if not call.as_json:
        tell()
    if body["written"]:
        why = f"rollback to generation {generation}" + (f": {reason}" if reason else "")
        body |= _put_in_force(call, why, after.version, lambda: _write(folder, before, after))
    call.show(body, lambda: _tell_reload(body))


def _changed(before: "PolicyText", after: "PolicyText") -> list[str]:
    return [path for path in sorted({*before.files, *after.files}) if before.files.get(path) != after.files.get(path)]


def _read(folder: Path) -> "PolicyText":
    """Read the files to be edited; an edit that was broken off is finished first."""
    from gateway.policy_files import finish_edit

    if folder.is_dir() and finish_edit(folder):
        note("an edit that was broken off half-way is finished")
    return read(folder)


def _write(folder: Path, before: "PolicyText", after: "PolicyText") -> None:
    from gateway.policy_files import write_policy_files

    write_policy_files(folder, before, after)


def _put_in_force(call: Call, why: str, version: str, write: Callable[[], None]) -> dict[str, Any]:
    with call.client() as client:
        # WHY: told before, for the gateway may notice the files before it is asked to; the edit is its user's.
        client.request("POST", "/v1/policy/reload", json={"reason": why[:2000], "announce": version})
        write()
        found: dict[str, Any] = client.request("POST", "/v1/policy/reload", json={"reason": why[:2000]}).body
    if any(problem["severity"] == "error" for problem in found["problems"]):
        sentence = "the files are written, but not in force"
        raise ConflictError(sentence, way_out="`hearthgate policy check` names the problems")
    return {"activated": found["activated"], "generation": found["generation"]}


def _tell(difference: str) -> None:
    if difference:
        print_block(difference)
    else:
        note("nothing to change")


def _tell_reload(body: dict[str, Any]) -> None:
    if "generation" in body:
        note(f"in force as generation {body['generation']}")
    elif not body["written"]:
        note("nothing was written")
