"""`policy selfcheck` and `policy bench`: what the user's own policy proves and costs."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_table
from gateway.cli.policy import Folder, app
from gateway.cli.policy_folder import known, model_of, parsed, read

if TYPE_CHECKING:
    from gateway.domain.request import AccessRequest, Facts
    from gateway.policy.engine import PolicySet

_DIFFERS = 6
_MOST_RECORDED = 1000
_MOST = 100_000
_PAGE = 200
_TURN_S = 2.0
_DIFFERENCES = columns(
    subject="subject",
    kind="kind",
    level="level",
    scope="scope",
    stock_casbin="stock",
    ours="enforcer",
    set="policy_set",
)
_FIGURES = columns(what="what", median_us="#median_us", p99_us="#p99_us", decisions="#decisions")


@verb(app, "selfcheck")
def selfcheck(
    call: Call,
    folder: Folder = None,
    *,
    count: Annotated[
        int, typer.Option("--requests", metavar="N", min=1, max=_MOST, help="Random and recorded requests each.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the random requests.")] = 1,
) -> None:
    """Ask stock Casbin what we answer, about this very policy.

    Random requests and, for a home, recorded ones. Exit 6 on a difference.
    """
    from gateway.policy.selfcheck import differences, draw_request

    policy = _policy(call, folder)
    choose = random.Random(seed).choice  # noqa: S311 (it must repeat, not surprise)
    drawn = [draw_request(policy, choose) for _ in range(count)]
    recorded = [] if folder is not None else list(_recorded(call, min(count, _MOST_RECORDED)))
    found = [each.as_json() for each in differences(policy, [*drawn, *recorded], _facts())]
    body = {
        "ok": not found, "random": len(drawn), "recorded": len(recorded), "rules": len(policy.rules),
        "fallback_reason": policy.fallback_reason, "differences": found,
    }  # fmt: skip

    def tell() -> None:
        if found:
            print_table(_DIFFERENCES, found, empty="")
        if policy.fallback_reason is not None:
            note(f"stock casbin answers every request, slowly: {policy.fallback_reason}")
        note(f"{len(drawn)} random and {len(recorded)} recorded requests: {len(found)} differences to stock casbin")

    call.show(body, tell)
    if found:
        raise typer.Exit(_DIFFERS)


@verb(app, "bench")
def bench(
    call: Call,
    folder: Folder = None,
    *,
    count: Annotated[
        int, typer.Option("--requests", metavar="N", min=1, max=_MOST, help="Decisions to measure.")
    ] = 5000,
) -> None:
    """Measure decisions of this policy beside stock Casbin's, in one run.

    Ratios tell more than times: the machine does other things as well.
    """
    from gateway.policy.selfcheck import draw_request
    from gateway.policy.stock import asked_values, build_stock

    policy, facts = _policy(call, folder), _facts()
    choose = random.Random(1).choice  # noqa: S311 (it must repeat, not surprise)
    asked = [draw_request(policy, choose) for _ in range(count)]
    stock = build_stock(policy.rules, policy.roles, policy.calendars, policy.parsed.model)
    rows = [
        _measured("decisions, first asked", lambda request: policy.decide(request, facts), asked),
        _measured("decisions, asked again", lambda request: policy.decide(request, facts), asked),
        _measured("stock casbin", lambda request: stock.enforce(*asked_values(request, facts)), asked),
    ]
    body = {"rules": len(policy.rules), "figures": rows}
    call.show(body, lambda: print_table(_FIGURES, rows, empty=""))


def _measured(what: str, ask: "Callable[[AccessRequest], object]", asked: "Sequence[AccessRequest]") -> dict[str, Any]:
    took = []
    until = time.perf_counter() + _TURN_S
    for request in asked:
        start = time.perf_counter_ns()
        ask(request)
        took.append(time.perf_counter_ns() - start)
        if time.perf_counter() > until:
            break
    took.sort()
    median, late = took[len(took) // 2], took[len(took) * 99 // 100]
    return {"what": what, "median_us": median / 1000, "p99_us": late / 1000, "decisions": len(took)}


def _policy(call: Call, folder: Path | None) -> "PolicySet":
    from gateway.policy.engine import build_policy_set

    members = {} if folder is not None else call.ask("GET", "/v1/policy")["memberships"]
    folder = call.home() / "policies" if folder is None else folder
    found = parsed(read(folder), folder, known(call, folder), model_of(call, folder))
    return build_policy_set(found, memberships={who: tuple(what) for who, what in members.items()}, generation=0)


def _facts() -> "Facts":
    from gateway.domain.request import Facts

    return Facts(at=datetime.now(UTC), risk=30, consent_id="selfcheck")


def _recorded(call: Call, count: int) -> "Iterator[AccessRequest]":
    from gateway.domain.names import Subject
    from gateway.domain.request import AccessRequest

    given = 0
    cursor: str | None = None
    while given < count:
        query = {"limit": str(min(_PAGE, count)), **({"cursor": cursor} if cursor else {})}
        page = call.ask("GET", "/v1/audit", params=query)
        for record in page["records"]:
            decision = record.get("decision")
            if decision and decision.get("scope") is not None and given < count:
                given += 1
                yield AccessRequest(
                    subject=Subject(decision["subject"]), user=None, kind=decision["kind"], level=decision["level"],
                    scope=decision["scope"],
                )  # fmt: skip
        cursor = page.get("cursor")
        if not cursor:
            return
