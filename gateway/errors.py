"""Every error of Hearthgate: a stable code, an HTTP status, an exit status, a sentence and the way out.

Errors are for what should not be answered. A denial, a time-out and a killed plugin are values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a file something is wrong; line and column count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Give `file:line:column` as far as known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file that a person wrote."""

    place: Place
    message: str
    severity: str = "error"  # or "warning": told, but stops nothing

    def __str__(self) -> str:
        """Give the line that a person reads."""
        note = "warning: " if self.severity == "warning" else ""
        return f"{self.place}: {note}{self.message}"

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "message": self.message,
            "severity": self.severity,
        }


PROBLEMS = "urn:hearthgate:problem:"
REQUEST_PROBLEMS = "urn:openid:authzen:access-request:error:"


class HearthgateError(Exception):
    """Something that cannot be answered; `str()` is the sentence a person reads."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1
    title: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        message: str,
        *,
        way_out: str | None = None,
        decision_id: str | None = None,
        problems: Sequence[Problem] = (),
        retry_after_s: int | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.way_out = way_out
        self.decision_id = decision_id
        self.problems = tuple(problems)
        self.retry_after_s = retry_after_s
        self.extra = extra or {}

    @property
    def urn(self) -> str:
        """The stable problem type of RFC 9457."""
        return f"{PROBLEMS}{self.code}"

    @property
    def lines(self) -> list[str]:
        """The sentence with the way out, then every located problem."""
        head = f"{self.message}: {self.way_out}" if self.way_out else self.message
        return [head, *(f"  {problem}" for problem in self.problems)]

    def __str__(self) -> str:
        """Give the sentence, the way out and every located problem."""
        return "\n".join(self.lines)


class MalformedError(HearthgateError):
    """What was sent or written cannot be read as what it must be."""

    code, status, title = "malformed", 400, "The request cannot be understood"


class UnauthenticatedError(HearthgateError):
    """Nobody known is asking."""

    code, status, title = "unauthenticated", 401, "Authentication is needed"


class DeniedError(HearthgateError):
    """The policy said no to a request that needs a yes to be answered at all."""

    code, status, exit_status, title = "denied", 403, 3, "Denied by the policy"


class NotFoundError(HearthgateError):
    """There is no such thing."""

    code, status, title = "not_found", 404, "Not found"


class IllegalTransitionError(HearthgateError):
    """The thing is in a state in which this cannot be done; `extra["legal"]` names what can."""

    code, status, title = "illegal_transition", 409, "Not possible in this state"


class ConflictError(HearthgateError):
    """Something changed or stands in the way."""

    code, status, title = "conflict", 409, "In conflict with what is there"


class NoCodeError(ConflictError):
    """A plugin without code cannot be executed."""

    code = "no_code"


class ReloadFailedError(ConflictError):
    """A new generation was not taken; the one before stays in force."""

    code, title = "reload_failed", "The new generation was not taken"


class PolicyBrokenError(ConflictError):
    """The policy files have errors, so nothing can be added to them."""

    code, title = "policy_broken", "The policy files have errors"


class PolicyUnreadableError(PolicyBrokenError):
    """The policy files cannot be read, or others could have written them."""

    code, title = "policy_unreadable", "The policy files cannot be believed"


class TooLargeError(HearthgateError):
    """More bytes than this door takes."""

    code, status, title = "too_large", 413, "Too large"


class UnsupportedMediaTypeError(HearthgateError):
    """A body that is not declared as JSON."""

    code, status, title = "unsupported_media_type", 415, "Send application/json"


class MisdirectedError(HearthgateError):
    """A Host that is not this gateway's."""

    code, status, title = "misdirected", 421, "Not a host of this gateway"


class OverloadedError(HearthgateError):
    """More asked than can be answered now."""

    code, status, title = "overloaded", 429, "Too many requests"


class RateLimitedError(HearthgateError):
    """A credential is used more often than it may be."""

    code, status, title = "rate_limited", 429, "Too many requests of one key"


class LogUnavailableError(HearthgateError):
    """The decision log cannot be written, so nothing may run."""

    code, status, title = "log_unavailable", 503, "The decision log cannot be written"


class UnavailableError(HearthgateError):
    """Something the answer depends on is not there now."""

    code, status, title = "unavailable", 503, "Not available now"


class HostCannotKeepError(HearthgateError):
    """The host cannot give the isolation that was promised; nothing ran."""

    code, status, title = "host_cannot_keep", 503, "The host cannot keep the sandbox's promise"


class _AccessRequestError(HearthgateError):
    """An error of the access request profile of AuthZEN, which names its problem types itself."""

    code, title = "access_request", "The request for access cannot be taken"

    @property
    def urn(self) -> str:
        """The problem type of the profile."""
        return f"{REQUEST_PROBLEMS}{self.code}"


class NotRequestableError(_AccessRequestError):
    """Nobody could give what was denied, or it is denied no longer."""

    code, status, title = "not_requestable", 400, "Not requestable"


class InvalidBindingError(_AccessRequestError):
    """What is asked for is not what was denied to this caller."""

    code, status, title = "invalid_denial_binding", 400, "Not the denied question"


class ExpiredDenialError(_AccessRequestError):
    """The denial is too old to be asked about."""

    code, status, title = "expired_denial", 410, "The denial is over"


class DuplicateRequestError(_AccessRequestError):
    """The idempotency key was used for another request."""

    code, status, title = "duplicate_request", 409, "Another request with this key"


class UnknownTaskError(_AccessRequestError):
    """There is no such request, or it is not told to this caller."""

    code, status, title = "unknown_task", 404, "No such request"


class TaskStateError(_AccessRequestError):
    """The request was answered already."""

    code, status, title = "invalid_task_state", 409, "Answered already"


class OutcomeUnknownError(HearthgateError):
    """It ran, and nobody knows how it ended."""

    code, status, exit_status, title = "outcome_unknown", 504, 5, "Outcome unknown"


class UsageError(HearthgateError):
    """A command was called in a way it does not understand."""

    code, status, exit_status, title = "usage", 400, 2, "Wrong usage"


class NoHomeError(UsageError):
    """The folder named is not a home."""

    code, title = "no_home", "No home"


class HomeInUseError(HearthgateError):
    """Another process writes this home."""

    code, status, title = "home_in_use", 409, "Another process has this home open"


class ConfigError(HearthgateError):
    """The settings file cannot be believed."""

    code, title = "config", "The settings are wrong"


class VerificationError(HearthgateError):
    """A log or a checkpoint is not what it claims to be."""

    code, status, exit_status, title = "verification", 422, 6, "Verification failed"
