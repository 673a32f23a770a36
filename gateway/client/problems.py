"""Problem documents of RFC 9457 and the errors they stand for, in both directions."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import PROBLEMS, REQUEST_PROBLEMS, HearthgateError, Place, Problem

_OWN_MEMBERS = frozenset({"type", "title", "status", "detail", "way_out", "decision_id", "problems", "retry_after_s"})


def error_of(body: Mapping[str, Any], *, status: int) -> HearthgateError:
    """Give the error that a problem document tells of; an unknown type gives the plainest error."""
    code = str(body.get("type", "")).removeprefix(PROBLEMS).removeprefix(REQUEST_PROBLEMS)
    kind = _BY_CODE.get(code, HearthgateError)
    message = body.get("detail") or body.get("title") or f"the gateway answered {status} and said no more"
    retry_after_s = body.get("retry_after_s")
    return kind(
        str(message),
        way_out=body.get("way_out"),
        decision_id=body.get("decision_id"),
        problems=tuple(_problem(entry) for entry in body.get("problems") or ()),
        retry_after_s=retry_after_s if isinstance(retry_after_s, int) else None,
        extra={name: value for name, value in body.items() if name not in _OWN_MEMBERS},
    )


def problem_of(error: HearthgateError) -> dict[str, Any]:
    """Give the problem document of an error, as HTTP callers get it."""
    body: dict[str, Any] = {
        "type": error.urn,
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "way_out": error.way_out,
        "decision_id": error.decision_id,
        "problems": [problem.as_json() for problem in error.problems] or None,
        "retry_after_s": error.retry_after_s,
    }
    return {**error.extra, **{name: value for name, value in body.items() if value is not None}}


def _problem(entry: Mapping[str, Any]) -> Problem:
    place = Place(file=str(entry.get("file", "?")), line=entry.get("line"), column=entry.get("column"))
    severity = str(entry.get("severity", "error"))
    return Problem(place=place, message=str(entry.get("message", "")), severity=severity)


def _kinds(kind: type[HearthgateError]) -> Iterator[type[HearthgateError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


_BY_CODE = {kind.code: kind for kind in _kinds(HearthgateError)}
