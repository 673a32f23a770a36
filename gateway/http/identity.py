"""Identity: who is asking. A key beats the socket; the socket's peer is the owner only if it is our own uid."""

import os
from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.types import Scope
from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.domain.names import UserId, parse_user_id
from gateway.domain.quota import Quota
from gateway.errors import MalformedError, UnauthenticatedError
from gateway.flows.parts import Parts
from gateway.http.quotas import Quotas
from gateway.http.tokens import KEY_ID as TOKEN
from gateway.http.tokens import Tokens
from gateway.http.traces import trace_of
from gateway.registry.keys import KEY_PREFIX

ON_BEHALF = "hearthgate-on-behalf"
PEER = "unix-uid:"
_KNOWN = "hearthgate.known"
_BEARER = "bearer "
_MAX_REASON_CHARS = 2000
_SOCKET_READ = frozenset({"evaluate", "audit"})


class Identity:
    """Tells who sends a request, for one home."""

    def __init__(
        self, parts: Parts, *, socket: str, key_rate: Quota | None = None, tokens: Tokens | None = None
    ) -> None:
        self._parts = parts
        self._socket = socket
        self._key_rate = key_rate
        self._quotas = Quotas()
        self._tokens = tokens

    def caller(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Caller:
        """Give the caller of a request.

        Raises:
            UnauthenticatedError: no key, no known key, or a key that is over; which of them is not told.
            RateLimitedError: the key is used more often than it may be.
        """
        known: Caller | None = scope.get(_KNOWN)  # type: ignore[assignment] # an entry of our own
        if known is not None:
            return known  # WHY: a request that turns out not to be plain comes here twice, and counts once
        trace = trace_of(scope, headers)
        reason = _reason(scope)
        caller = self._authenticated(scope, headers)
        if trace is not None or reason is not None:
            caller = replace(caller, trace=trace, reason=reason)
        scope[_KNOWN] = caller  # type: ignore[literal-required] # an entry of our own
        return caller

    def _authenticated(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Caller:
        authorization = headers.get(b"authorization")
        if authorization is not None:
            return self._by_key(scope, authorization.decode("latin-1"))
        host = scope["client"][0] if scope.get("client") else ""  # type: ignore[index] # just looked
        # SECURITY: only the gateway's own unix listener, or the process itself, writes such a peer name.
        if self._socket != "off" and host == f"{PEER}{os.getuid()}":
            return self._owner(headers)
        raise UnauthenticatedError(
            "who is asking?", way_out="send `Authorization: Bearer <key>` (`hearthgate key add`)"
        )

    def _by_key(self, scope: Scope, authorization: str) -> Caller:
        text = authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else ""
        if self._tokens is not None and not text.startswith(KEY_PREFIX):
            return self._by_token(scope, self._tokens, text)
        key = self._parts.registry.keys.holder(text, at=self._parts.now())
        if key is None:
            raise UnauthenticatedError("this key is not known, or is over", way_out="`hearthgate key add` makes one")
        if (quota := key.rate or self._key_rate) is not None:
            self._quotas.take(scope, key.id, quota)
        return Caller(user_id=key.user_id, key_id=key.id, key_scopes=key.scopes)

    def _by_token(self, scope: Scope, tokens: Tokens, text: str) -> Caller:
        token = tokens.holder(text, at=self._parts.now())
        if token is None:
            raise UnauthenticatedError("this token is not taken, or is over", way_out="ask its issuer for another")
        if self._key_rate is not None:
            self._quotas.take(scope, f"{TOKEN} {token.user_id}", self._key_rate)
        return Caller(user_id=token.user_id, key_id=TOKEN, key_scopes=token.scopes, until=token.until)

    def _owner(self, headers: Mapping[bytes, bytes]) -> Caller:
        behalf = headers.get(ON_BEHALF.encode())
        try:
            on_behalf = None if behalf is None else parse_user_id(behalf.decode("latin-1"))
        except MalformedError as error:
            raise MalformedError(f"header {ON_BEHALF}: {error.message}", way_out=error.way_out) from None
        return Caller(
            user_id=UserId(self._parts.owner),
            owner=True,
            key_scopes=None if self._socket == "owner" else _SOCKET_READ,
            read_only=self._socket == "read",
            on_behalf=on_behalf,
        )


def peer_pid(scope: Scope) -> int | None:
    """Give the process at the other end of the unix socket, as the kernel told when it came; None on any other way."""
    client = scope.get("client")
    return client[1] if client is not None and client[0].startswith(PEER) else None


def _reason(scope: Scope) -> str | None:
    if not scope["query_string"]:
        return None
    request: Request[Any, Any, Any] = Request(scope)
    reason = request.query_params.get("reason") or None
    if reason is not None and len(reason) > _MAX_REASON_CHARS:
        raise MalformedError(f"reason: at most {_MAX_REASON_CHARS} characters")
    return reason
