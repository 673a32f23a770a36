"""What an edit would change: in general (diff), and of what was decided so far (impact)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_table, print_text
from gateway.cli.policy_folder import BY_SHIPPED, built, in_force, known, parsed, read, wanted_model
from gateway.errors import NotFoundError

if TYPE_CHECKING:
    from gateway.policy.engine import PolicySet
    from gateway.policy.impact import Impact

Other = Annotated[Path, typer.Argument(metavar="DIR", help="A policies folder.")]

_DIFFERENT = 4
_DECISION_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FLIPS = columns(from_="from", to="to", rule="rule.id", subject="subject", user="user", permission="permission",
                 scope="scope", decision="decision_id")  # fmt: skip
_CLASSES = columns(who="subjects", kind="kind", level="level", scope="scope", from_="from", to="to")
_GROUPS = columns(rule="rule", allow_to_deny="#allow_to_deny", deny_to_allow="#deny_to_allow")
_SHOWN = 20


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs that compare policies."""
    verb(app, "diff")(diff)
    verb(app, "impact")(impact)
    verb(app, "suggest")(suggest)


def suggest(call: Call, decision: Annotated[str, typer.Argument(metavar="DECISION", help="A denied one.")]) -> None:
    """Tell the smallest change that would allow a denied call.

    Every change told was applied aside: it allows that call, and what else it would change is told. None is made.
    """
    found = call.ask("GET", decision_path(decision, "suggest"))

    def tell() -> None:
        print_text(*found["sentences"])
        for change in found["suggestions"]:
            if change.get("flips"):
                print_table(_FLIPS, change["flips"][:_SHOWN], empty="")

    call.show(found, tell)


def decision_path(decision: str, what: str) -> str:
    """Give the path of what is told about a decision; its record's id does as well.

    Raises:
        NotFoundError: no decision has such an id.
    """
    known = _DECISION_ID.fullmatch(decision.removeprefix("audit-"))
    if known is None:
        raise NotFoundError(f"there is no decision `{decision[:80]}`", way_out="`hearthgate audit search` finds them")
    return f"/v1/decisions/{known[0]}/{what}"


def diff(call: Call, folder: Other) -> None:
    """List everything that the policy in DIR answers differently from the home's.

    Needs no gateway. Exit 4 if there is something. How a policy is written makes no difference.
    """
    from gateway.policy.diff import compare

    home = call.home()
    registry = known(call)
    here, other = (parsed(read(each), each, registry, wanted_model(home)) for each in (home / "policies", folder))
    found = compare(here, other, active=() if registry is None else registry.active)

    def tell() -> None:
        print_table(_CLASSES, found.as_json()["differences"], empty="every request is answered alike")  # type: ignore[arg-type] # made of rows
        print_text(*found.tiers)
        for name in found.other_files:
            note(f"{name} says something else")
        if found.own_model:
            note(f"the model is the operator's own: {BY_SHIPPED}, `hearthgate policy impact` by yours")

    call.show(found.as_json(), tell)
    if not found.same:
        raise typer.Exit(_DIFFERENT)


def impact(call: Call, folder: Other) -> None:
    """Replay the recorded decisions against the policy in DIR.

    Needs no gateway, and disturbs none. Exit 4 if a decision would be answered otherwise.
    """
    home = call.home()
    edited = built(read(folder), folder, known(call), wanted_model(home))
    found = _replay(home / "data", in_force(home), edited)
    body = found.as_json()

    def tell() -> None:
        print_table(_GROUPS, body["by_rule"], empty="no decision would be answered otherwise")  # type: ignore[arg-type] # made of rows
        print_text(*(change for _, change in sorted(found.tiers.items())))
        if found.flips:
            print_table(_FLIPS, body["flips"][:_SHOWN], empty="")  # type: ignore[index,arg-type] # same
        if found.flipped > _SHOWN:
            note(f"and {found.flipped - _SHOWN} more: --json lists them")
        note(f"{found.replayed} replayed, {found.flipped} flipped, {found.missing.total()} cannot be replayed")
        for what, count in sorted(found.missing.items()):
            note(f"  {count} lack {what}")

    call.show(body, tell)
    if found.flipped:
        raise typer.Exit(_DIFFERENT)


def _replay(data: Path, now: "PolicySet", edited: "PolicySet") -> "Impact":
    import gc

    from gateway.audit.decisions import count_records
    from gateway.cli.progress import progress
    from gateway.flows.impact import impact as replay

    if not (data / "audit.db").exists():
        from gateway.policy.impact import Impact

        return Impact()
    # WHY: both policies stay to the end, so the collector need not walk over them again and again.
    gc.freeze()
    with progress("replaying", total=lambda: count_records(data), unit="records") as told:
        return replay(data, now, edited, told=told)
