"""To execute once: a call repeated with the same idempotency key gets the first answer, and nothing runs twice.

Kept in memory for the last calls: after a restart a key is new again.
"""

import asyncio
from collections import OrderedDict

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.errors import ConflictError
from gateway.flows.authorize import check_credential
from gateway.flows.call import Call, Execution
from gateway.flows.execute import execute
from gateway.flows.parts import Parts

_KEPT = 1024


class Once:
    """The answers that were given to calls with an idempotency key."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str, str], tuple[Call, asyncio.Task[Execution]]] = OrderedDict()

    async def execute(self, parts: Parts, caller: Caller, call: Call, key: str | None) -> Execution:
        """Run a call, or give the answer that the same call with the same key got.

        Raises:
            ConflictError: the key was used for another call.
            HearthgateError: whatever `execute` raises; a call that was refused can be made again.
        """
        if key is None:
            return await execute(parts, caller, call)
        # SECURITY: asked also where the answer is known already: a key that may not execute gets no results either.
        await check_credential(parts, caller, Level.EXECUTE, f"plugins/{call.plugin_id}", key_scope="execute")
        # SECURITY: a key is its user's own, so that nobody gets another's answer.
        name = (f"{caller.subject} {call.user}", call.plugin_id, key)
        known = self._answers.get(name)
        if known is None:
            task = asyncio.create_task(execute(parts, caller, call))
            self._answers[name] = (call, task)
            task.add_done_callback(lambda done: self._forget_refused(name, done))
            self._trim()
        elif not _same(known[0], call):
            raise ConflictError(f"the idempotency key `{key[:80]}` was used for another call")
        else:
            task = known[1]
        return await asyncio.shield(task)

    def forget(self, user: str) -> None:
        """Drop the answers to a user's calls, and to calls on the user's behalf."""
        for name, (call, _) in list(self._answers.items()):
            if call.user == user or name[0].startswith(f"user:{user} "):
                del self._answers[name]

    def _forget_refused(self, name: tuple[str, str, str], task: "asyncio.Task[Execution]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._answers.pop(name, None)

    def _trim(self) -> None:
        for name, (_, task) in list(self._answers.items()):
            if len(self._answers) <= _KEPT:
                return
            if task.done():
                del self._answers[name]


def _same(one: Call, other: Call) -> bool:
    return (one.payload, one.session_id, one.timeout_s) == (other.payload, other.session_id, other.timeout_s)
