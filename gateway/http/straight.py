"""The straight way of questions: a plain one, in our words or AuthZEN's, is answered without the framework's machinery.

Whatever is not plainly a well-formed question of somebody who is known goes the framework's way, whole, as if it
had never been here: one route, one set of refusals, and only the good case stands twice.
"""

import logging
import time
from typing import Any, cast

import msgspec
from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.types import HTTPReceiveMessage, HTTPScope, Receive, Scope, Send
from pydantic import ValidationError

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision
from gateway.errors import HearthgateError
from gateway.flows.ask import Question, ask
from gateway.flows.evaluate import as_question as as_evaluated
from gateway.flows.parts import Parts
from gateway.http.authzen import DECISION_ID, EVALUATION
from gateway.http.authzen_bodies import EvaluationBody, as_evaluation
from gateway.http.bodies import DecisionBody
from gateway.http.decisions import PATH, as_question
from gateway.http.doors import REQUEST_ID, Door, first_headers
from gateway.http.heads import Head, head_of, telling
from gateway.http.problems import answer_error, answer_surprise
from gateway.registry.folder import parse_json_strictly

_JSON_TYPE = (b"content-type", b"application/json")
_LENGTH = b"content-length"
_DECISION_ID = DECISION_ID.lower().encode()
_SAYS = {True: b'{"decision":true}', False: b'{"decision":false}'}
_log = logging.getLogger("hearthgate.http")
_encode = msgspec.json.Encoder().encode
PLAIN = frozenset({PATH, EVALUATION})


class StraightWay:
    """An application with a shorter way for plain questions, whose paths are `PLAIN`."""

    def __init__(self, application: Litestar, parts: Parts, door: Door, *, max_body_bytes: int) -> None:
        self.application, self._parts, self._door = application, parts, door
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or scope["path"] not in PLAIN or scope["method"] != "POST":
            await self.application(scope, receive, send)
            return
        caller = self.known(scope)
        if caller is None:
            await self.application(scope, receive, send)
            return
        message = cast("HTTPReceiveMessage", await receive())
        whole = not message.get("more_body")
        path = scope["path"]
        question = self.question(path, message["body"], caller) if message["type"] == "http.request" and whole else None
        if question is None:
            await self.application(scope, _after(message, receive), send)
            return
        try:
            body, more = await self.answer(path, caller, question)
        except Exception as error:  # noqa: BLE001 (as the framework does)
            await self.refuse(error, scope, receive, send)
        else:
            headers = [_JSON_TYPE, *more, *head_of(scope), (_LENGTH, b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

    def known(self, scope: HTTPScope) -> Caller | None:
        """Give who sends a question whose head is as it should be; None for whatever is the framework's to answer."""
        if scope["method"] != "POST" or scope["query_string"]:
            return None
        headers = first_headers(scope)
        try:
            announced = int(headers.get(_LENGTH, b"-1"))
            if not 0 <= announced <= self._max_body_bytes or (scope["path"] == EVALUATION and REQUEST_ID in headers):
                return None
            self._door.check(scope, headers)
            return self._door.caller(scope, headers)
        except (HearthgateError, ValueError):
            return None  # refused, and counted, the other way

    def question(self, path: str, raw: bytes | bytearray, caller: Caller) -> Question | None:
        """Give the question that a whole body is, None if it is none."""
        if len(raw) > self._max_body_bytes:
            return None
        try:
            body = parse_json_strictly(bytes(raw), "body")
            if path == PATH:
                return as_question(DecisionBody.model_validate(body), caller)
            asked = as_evaluation(EvaluationBody.model_validate(body))
            # WHY: what is never answered about, and what is to be explained, is answered in other words.
            return as_evaluated(asked, caller) if asked.answerable and "explain" not in asked.context else None
        except (HearthgateError, ValidationError, RecursionError):
            return None  # as above

    async def answer(self, path: str, caller: Caller, question: Question) -> tuple[bytes, Head]:
        """Give the body that answers a question, and the headers that belong to it.

        Raises:
            DeniedError: the key is not meant for questions, or the policy says no; recorded.
            LogUnavailableError: nothing was recorded.
        """
        began = time.monotonic()
        decision = await ask(self._parts, caller, question)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("POST %s: 200 in %.1f ms", path, (time.monotonic() - began) * 1000)
        return _told(path, decision)

    async def refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, as the framework would."""
        request: Request[Any, Any, Any] = Request(scope, receive)
        if isinstance(error, HearthgateError):
            self._door.count(error.status)
            _log.debug("POST %s: refused: %d %s", request.url.path, error.status, error.code)
            response = answer_error(request, error)
        else:
            response = answer_surprise(request, error)
        await response.to_asgi_response(None, request)(scope, receive, telling(scope, send))


def _told(path: str, decision: Decision) -> tuple[bytes, Head]:
    if path == PATH:
        return _encode(decision.as_json()), ()
    return _SAYS[decision.allowed], ((_DECISION_ID, decision.decision_id.encode()),)


def _after(message: HTTPReceiveMessage, receive: Receive) -> Receive:
    """Give what is received once `message` was put back."""
    waiting = [message]

    async def again() -> Any:  # noqa: ANN401 (any message)
        return waiting.pop() if waiting else await receive()

    return again
