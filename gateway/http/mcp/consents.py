"""To ask a client's user for consent: only through a key that is made for consenting, and never twice for one answer.

SECURITY: an agent never consents for its human. The key's scope `consent` says that whoever sits at the other end shows
what is asked to a person; what that person then gives is written by the same flow as every consent.
"""

import re
import secrets
import shlex
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import mcp_types as types

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.decision import Reason
from gateway.domain.names import parse_plugin_id, split_subject
from gateway.domain.permission import Kind, parse_permission
from gateway.domain.visible import one_line
from gateway.errors import DeniedError, HearthgateError
from gateway.flows.call import Execution
from gateway.flows.consent import ConsentWish, give_consent
from gateway.flows.parts import Parts

MAX_ASKED = 4  # consents that one call may ask for
_FOR = timedelta(minutes=10)
_NO, _FOR_NOW, _FOR_GOOD = "no", "yes, for ten minutes", "yes, until I withdraw it"
_FIELD = "consent"
_PLAIN_SCOPE = re.compile(r"[^\s`\x00-\x1f\x7f]{1,200}")
_MAX_OPEN = 1024
_MAX_PURPOSE_CHARS = 300
_AGE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A question that waits for its answer: of whom, about which call, for what."""

    caller: str
    name: str
    wish: ConsentWish
    until: datetime
    asked: int


class Consents:
    """The questions that clients' users were asked."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reader = LogReader(parts.home / "data")
        self._open: OrderedDict[str, _Open] = OrderedDict()
        parts.forgetting.append(lambda user, _seqs: self._forget(user))

    def missing(self, caller: Caller, error: DeniedError) -> ConsentWish | None:
        """Give the consent that a refused call lacked, if that is all it lacked and the caller may give it."""
        decision = error.extra.get("decision")
        return self._wish(caller, decision) if isinstance(decision, dict) else None

    def missing_within(self, caller: Caller, execution: Execution) -> ConsentWish | None:
        """Give the consent that a call lacked while it ran; reads the log, so call it in a thread."""
        for ask in execution.result.asks:
            row = self._reader.get(f"audit-{ask['decision_id']}") if ask.get("effect") == "deny" else None
            wish = self._wish(caller, row["decision"]) if row is not None and row["decision"] is not None else None
            if wish is not None:
                return wish
        return None

    def _wish(self, caller: Caller, decision: Mapping[str, Any]) -> ConsentWish | None:
        prefix, name = split_subject(str(decision["subject"]))
        # SECURITY: the owner over the socket holds no key, and whatever runs as that user could be an agent.
        may = not caller.owner and caller.key_scopes is not None and "consent" in caller.key_scopes
        if not may or prefix != "plugin" or decision["reason"] != Reason.CONSENT_REQUIRED:
            return None
        # SECURITY: a plugin chooses what it asks for; a scope that reads like a sentence could speak to the person.
        if not _PLAIN_SCOPE.fullmatch(str(decision["scope"])):
            return None
        if decision["user"] != caller.user_id or caller.acts_for != caller.user_id:
            return None
        return ConsentWish(
            user_id=caller.user_id,
            plugin_id=parse_plugin_id(name),
            permission=parse_permission(str(decision["permission"])),
            scope=str(decision["scope"]),
            purpose="asked for through MCP",
        )

    def question(self, wish: ConsentWish) -> types.ElicitRequestFormParams:
        """Put the question in words; what the plugin's author says is told as what they say."""
        plugin = self._parts.registry.plugins.get(wish.plugin_id)
        level, scope = wish.permission.level.word, one_line(wish.scope)
        whose = "" if wish.permission.kind not in {Kind.VAULT, Kind.USER} else " of yours"
        text = f"The plugin `{wish.plugin_id}` wants to {level} `{scope}`{whose} ({wish.permission})."
        requested = () if plugin is None else plugin.manifest.permissions
        purpose = next((each.purpose for each in requested if each.permission == wish.permission and each.purpose), "")
        if purpose:
            text += f" Its author says why: {one_line(purpose)[:_MAX_PURPOSE_CHARS]!r}."
        return types.ElicitRequestFormParams(
            message=f"{text} Do you consent?",
            requested_schema={
                "type": "object",
                "properties": {
                    _FIELD: {"type": "string", "title": "Your answer", "enum": [_NO, _FOR_NOW, _FOR_GOOD]},
                },
                "required": [_FIELD],
            },
        )

    def open(self, caller: Caller, name: str, wish: ConsentWish, asked: int) -> str:
        """Note a question whose answer comes with another request; gives what that request must bring."""
        token = secrets.token_urlsafe(32)
        until = self._parts.now() + _AGE
        self._open[token] = _Open(caller=caller.credential, name=name, wish=wish, until=until, asked=asked)
        while len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
        return token

    def take(self, caller: Caller, name: str, token: str) -> tuple[ConsentWish, int] | None:
        """Give the question that a token stands for, once, and only to whom it was asked for the same tool."""
        # SECURITY: what the client brings is an attacker's to choose; all it can do is name a question of its own.
        known = self._open.get(token)
        if known is None or (known.caller, known.name) != (caller.credential, name):
            return None
        del self._open[token]
        return None if known.until <= self._parts.now() else (known.wish, known.asked)

    def _forget(self, user: str) -> None:
        """Drop what a user who is erased was asked."""
        for token, each in list(self._open.items()):
            if each.wish.user_id == user:
                self._open.pop(token, None)

    async def settle(self, caller: Caller, wish: ConsentWish, answer: object) -> bool:
        """Write the consent that a person gave; tells whether they did.

        Raises:
            HearthgateError: they did, and it could not be written.
        """
        if not isinstance(answer, types.ElicitResult) or answer.action != "accept" or answer.content is None:
            return False
        match answer.content.get(_FIELD):
            case str(said) if said == _FOR_NOW:
                wish = replace(wish, until=self._parts.now() + _FOR)
            case str(said) if said == _FOR_GOOD:
                pass
            case _:
                return False
        await give_consent(self._parts, caller, wish)
        return True


def hint_for(caller: Caller, error: HearthgateError) -> str | None:
    """Say where a person can consent, for a denial that only a consent would turn."""
    decision = error.extra.get("decision")
    if not isinstance(decision, dict) or decision.get("reason") != Reason.CONSENT_REQUIRED:
        return None
    plugin = split_subject(str(decision["subject"]))[1]
    given = {"user": caller.acts_for, "plugin": plugin, **{name: decision[name] for name in ("permission", "scope")}}
    what = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in given.items())
    return f"the user's own consent is needed: `hearthgate consent add {what}`, or a key with the scope `consent`"
