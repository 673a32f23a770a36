"""Problems: every error as `application/problem+json` (RFC 9457) with a stable type."""

import logging
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from gateway.errors import PROBLEMS, HearthgateError
from gateway.own_log import described

_log = logging.getLogger("hearthgate.http")
PROBLEM = "application/problem+json"
_WORDS: Mapping[int, tuple[str, str]] = {
    400: ("malformed", "The request cannot be understood"),
    401: ("unauthenticated", "Authentication is needed"),
    403: ("denied", "Denied by the policy"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Not a method of this route"),
    413: ("too_large", "Too large"),
    415: ("unsupported_media_type", "Send application/json"),
}


def problem(
    status: int, urn: str, title: str, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> Response[Any]:
    """Make a problem response; members that are None are left out."""
    body = {"type": urn, "title": title, "status": status, "detail": detail}
    given = {name: value for name, value in members.items() if value is not None}
    return Response({**given, **body}, status_code=status, media_type=PROBLEM, headers=dict(headers or {}))


def answer_error(_request: Request[Any, Any, Any], error: HearthgateError) -> Response[Any]:
    """Answer with one of our own errors."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:  # noqa: PLR2004 (RFC 9110, 15.5.2)
        headers["WWW-Authenticate"] = 'Bearer realm="hearthgate"'
    return problem(
        error.status,
        error.urn,
        error.title,
        error.message,
        headers,
        way_out=error.way_out,
        decision_id=error.decision_id,
        problems=[each.as_json() for each in error.problems] or None,
        **error.extra,
    )


def answer_http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer with an error that the framework found."""
    code, title = _WORDS.get(error.status_code, ("error", "Something went wrong"))
    detail = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        told = [_told(each) for each in error.extra if isinstance(each, dict)]
        detail = "; ".join(told)[:2000] or detail
    return problem(error.status_code, f"{PROBLEMS}{code}", title, detail, error.headers)


def _told(each: Mapping[str, Any]) -> str:
    key, message = str(each.get("key", "body")), str(each.get("message", ""))
    if " instance of " in message or key == "data":
        # WHY: the framework's own words name a Python class, or nothing at all where there is no body.
        return "a JSON object is needed" if key in {"body", "data"} else f"{key}: an object is needed"
    return f"{key}: {message.removeprefix('Value error, ')}"


def answer_surprise(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer with an error nobody foresaw; what it was goes to the gateway's own log, not to the caller."""
    _log.error("%s %s: answered 500: %s", request.method, request.url.path, described(error))
    detail = "the gateway could not answer; its own log says why"
    return problem(500, f"{PROBLEMS}error", "Something went wrong", detail)


def answer_recursion(_request: Request[Any, Any, Any], _error: RecursionError) -> Response[Any]:
    """Answer a body that is nested too deeply."""
    return problem(400, f"{PROBLEMS}malformed", "The request cannot be understood", "the body is nested too deeply")


HANDLERS: Mapping[Any, Any] = {
    HearthgateError: answer_error,
    HTTPException: answer_http_error,
    RecursionError: answer_recursion,
    Exception: answer_surprise,
}
