"""The route for decisions as a plain typed handler, so that what its fast path saves and answers can be compared."""

from typing import Any

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from gateway.domain.caller import Caller
from gateway.flows.ask import ask
from gateway.flows.parts import Parts
from gateway.http.bodies import DecisionBody
from gateway.http.decisions import as_question

PATH = "/typed/v1/decisions"


@post(PATH, status_code=200)
async def ask_typed(
    data: JSONBody[DecisionBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Decide and record, the framework's way."""
    decision = await ask(parts, caller, as_question(data, caller))
    return decision.as_json()
