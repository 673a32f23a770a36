"""A request for access that was denied: what was denied, and what it is bound to (AuthZEN access request profile)."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.decision import timestamp
from gateway.domain.exact_call import canonical_args
from gateway.domain.request import Json

_MAC_BYTES = 32
_MAX_TOKEN_CHARS = 8192


class Template(StrEnum):
    """What answers such a request."""

    CALL = "call-approval"  # a person's yes to this very question
    PERMISSION = "permission-request"  # a permission for a plugin


class TaskStatus(StrEnum):
    """Where a request stands, in the words of the profile."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One denied evaluation, as far as a request for its access must be of the same; `members` are of its context."""

    evaluation_id: str
    template: Template
    expires_at: datetime
    members: tuple[str, ...]


def bind_denial(key: bytes, denial: Denial, user: str, question: Mapping[str, Json]) -> str | None:
    """Give the token that binds a denial to who asked, and to the question; None where the question has no spelling."""
    told = {
        "e": denial.evaluation_id,
        "t": denial.template.value,
        "x": timestamp(denial.expires_at),
        "m": list(denial.members),
    }
    payload = json.dumps(told, separators=(",", ":")).encode()
    mac = _mac(key, payload, user, denial, question)
    token = None if mac is None else base64.urlsafe_b64encode(mac + payload).decode()
    return token if token is not None and len(token) <= _MAX_TOKEN_CHARS else None


def read_denial(key: bytes, token: str, user: str, question: Mapping[str, Json]) -> Denial | None:
    """Give the denial that a token is of, None if it is of another user or question, or of no denial at all."""
    # SECURITY: nothing of what the token says is used before it is known to be our own.
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        told = json.loads(raw[_MAC_BYTES:])
        denial = Denial(
            evaluation_id=str(told["e"]),
            template=Template(told["t"]),
            expires_at=datetime.fromisoformat(told["x"]),
            members=tuple(map(str, told["m"])),
        )
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None
    mac = _mac(key, raw[_MAC_BYTES:], user, denial, question)
    return denial if mac is not None and hmac.compare_digest(mac, raw[:_MAC_BYTES]) else None


def _mac(key: bytes, payload: bytes, user: str, denial: Denial, question: Mapping[str, Json]) -> bytes | None:
    context = question.get("context")
    given = context if isinstance(context, dict) else {}
    bound = {**question, "context": {name: given[name] for name in denial.members if name in given}}
    spelt = canonical_args(bound)
    if spelt is None:
        return None
    whole = b"\0".join((payload, user.encode(), hashlib.sha256(spelt).digest()))
    return hmac.digest(key, whole, "sha256")
