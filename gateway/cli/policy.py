"""The policy files: check them, judge their cases, see what is in force, ask why."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import policy_compare, policy_write
from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_facts, print_table, print_text
from gateway.cli.policy_folder import BY_SHIPPED, checked, known, model_of, read
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.policy.cases import CaseResult
    from gateway.policy.parse import ParsedPolicy

app = typer.Typer(help="The policy files: check, test, compare, write, explain.", no_args_is_help=True)
policy_compare.add_verbs(app)
policy_write.add_verbs(app)

Folder = Annotated[Path | None, typer.Argument(metavar="DIR", help="A policies folder; else the home's.")]

_CASE_FAILED = 4
_STATUS = columns(in_force="in_force", generation="generation", version="version", rules="rules", model="model")
_MEMBERSHIPS = columns(subject="subject", belongs_to="groups")


@verb(app, "check")
def check(call: Call, folder: Folder = None) -> None:
    """Report every problem of every file.

    Needs no gateway. Exit 1 if one of them is an error.
    """
    from gateway.policy.reach import check_reach

    parsed = _parsed(call, folder)
    problems = (*parsed.problems, *(check_reach(parsed) if parsed.ok else ()))
    body = {
        "ok": parsed.ok,
        "version": parsed.version,
        "rules": len(parsed.rules),
        "cases": len(parsed.cases),
        "problems": [problem.as_json() for problem in problems],
    }

    def tell() -> None:
        print_text(*problems)
        if problems and not parsed.model.is_shipped:
            note(f"the model is the operator's own: of what is said in vain, {BY_SHIPPED}")
        warnings = len(problems) - len(parsed.errors)
        note(f"{len(parsed.rules)} rules: {_count(len(parsed.errors), 'error')}, {_count(warnings, 'warning')}")

    call.show(body, tell)
    if not parsed.ok:
        raise typer.Exit(1)


@verb(app, "test")
def judge(
    call: Call,
    folder: Folder = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit report.")] = None,
) -> None:
    """Judge the policy's own cases, and name the rules that none of them exercises.

    Needs no gateway. Exit 4 if a case fails, 1 if the files have errors.
    """
    from gateway.policy.cases import run_cases, unexercised
    from gateway.policy.engine import build_policy_set

    parsed = _parsed(call, folder)
    if not parsed.ok:
        from gateway.errors import PolicyBrokenError

        raise PolicyBrokenError("the policy files have errors, so no case was judged", problems=parsed.errors)
    policy = build_policy_set(parsed, memberships={}, generation=0)
    results = run_cases(policy)
    failed = [result for result in results if not result.passed]
    idle = set(unexercised(policy, results))
    rules = [rule for rule in policy.rules if rule.id in idle]
    if junit is not None:
        from gateway.cli.files import write_text
        from gateway.cli.junit import junit_report

        write_text(junit, junit_report(results))

    def tell() -> None:
        print_text(*(f"{one.file}:{one.line}: {one.name}: {one.message}" for one in failed))
        for rule in rules:
            note(f"{rule.file}:{rule.line}: no case exercises `{rule.id}`")
        note(f"{_count(len(results), 'case')}: {len(results) - len(failed)} passed, {len(failed)} failed")

    unseen = [{"id": rule.id, "file": rule.file, "line": rule.line} for rule in rules]
    call.show({"ok": not failed, "cases": [_case(result) for result in results], "unexercised": unseen}, tell)
    if failed:
        raise typer.Exit(_CASE_FAILED)


@verb(app, "status")
def status(call: Call) -> None:
    """Show what is in force and the last problem."""
    found = call.ask("GET", "/v1/policy")

    def tell() -> None:
        print_facts(found, _STATUS)
        print_table(_MEMBERSHIPS, _memberships(found["memberships"]), empty="no plugin is active")
        for problem in found["problems"]:
            note(f"not in force: {problem['file']}:{problem['line']}: {problem['message']}")
        for problem in found["warnings"]:
            note(f"warning: {problem['file']}:{problem['line']}: {problem['message']}")

    call.show(found, tell)


@verb(app, "explain")
def explain(
    call: Call,
    *,
    decision: Annotated[str | None, typer.Argument(metavar="[DECISION]", help="One that was recorded.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="S", help="As plugin:notes.")] = None,
    permission: Annotated[str | None, typer.Option("--permission", metavar="P", help="As vault_read.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="X", help="As user_data/diary.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="U", help="On whose behalf.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="T", help="Then instead of now, RFC 3339.")] = None,
) -> None:
    """Tell why a decision was made, or what would be decided now.

    Uses up nothing. Exit 0 whatever the answer is.
    """
    asked: dict[str, Any] = {"subject": subject, "permission": permission, "scope": scope, "user": user, "at": at}
    body = {name: value for name, value in asked.items() if value is not None}
    if decision is not None and not body:
        found = call.ask("GET", policy_compare.decision_path(decision, "explain"))
    elif decision is None and body.keys() >= {"subject", "permission", "scope"}:
        found = call.ask("POST", "/v1/policy/explain", json=body)
    else:
        raise UsageError("nothing to explain", way_out="name a decision, or --subject, --permission and --scope")
    call.show(found, lambda: print_text(*found["sentences"]))


def _parsed(call: Call, folder: Path | None) -> "ParsedPolicy":
    folder = call.home() / "policies" if folder is None else folder
    return checked(read(folder), known(call, folder), model_of(call, folder))


def _case(result: "CaseResult") -> dict[str, Any]:
    return {
        "name": result.name,
        "file": result.file,
        "line": result.line,
        "passed": result.passed,
        "message": result.message,
    }


def _memberships(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"subject": subject, "groups": groups} for subject, groups in found.items()]


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
