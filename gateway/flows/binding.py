"""To bind an approval to one exact call: all that must be the same when it is used."""

import hashlib
import json
from collections.abc import Collection, Sequence

from msgspec import Struct

from gateway.domain.decision import Effect, Verdict
from gateway.domain.exact_call import ExactCall, canonical_args
from gateway.domain.names import PluginId, split_subject
from gateway.domain.permission import Kind
from gateway.domain.request import AccessRequest
from gateway.flows.parts import Parts
from gateway.policy.rule import Rule

_TERM = "approval"
_SHOWN_BYTES = 16 << 10  # of arguments, to who answers


class Binding(Struct, frozen=True, kw_only=True):
    """What one exact call is, in the words of the approval ledger."""

    request: AccessRequest
    call: ExactCall
    args: bytes
    code: tuple[str, ...]
    rules_sha256: str

    @property
    def args_sha256(self) -> str:
        """The digest of the canonical arguments."""
        return hashlib.sha256(self.args).hexdigest()

    @property
    def shown_args(self) -> str | None:
        """The canonical arguments as text, None if they are too long to be looked through."""
        return self.args.decode("utf-8") if len(self.args) <= _SHOWN_BYTES else None

    @property
    def key(self) -> str:
        """The digest of everything: a call of which anything differs has another."""
        request, call = self.request, self.call
        bound = [
            request.subject, request.user, call.by, call.op, request.kind, request.level, request.scope,
            self.args_sha256, self.code, call.chain, self.rules_sha256,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(bound, separators=(",", ":")).encode()).hexdigest()


def bind(
    parts: Parts, request: AccessRequest, call: ExactCall, rules: Sequence[Rule], held: Collection[str]
) -> Binding | None:
    """Say what an approval of this call is bound to; None if its arguments cannot be told exactly."""
    args = canonical_args(call.args)
    if args is None:
        return None
    return Binding(
        request=request,
        call=call,
        args=args,
        code=code_of(parts, request, call),
        rules_sha256=digest_of_rules(rules, held),
    )


def plugin_of(request: AccessRequest) -> str | None:
    """Name the plugin whose call it is, or which it is about."""
    prefix, name = split_subject(request.subject)
    if prefix == "plugin":
        return name
    prefix, _, name = request.scope.partition("/")
    return name.split("/")[0] if request.kind == Kind.GATEWAY and prefix == "plugins" and name else None


def code_of(parts: Parts, request: AccessRequest, call: ExactCall) -> tuple[str, ...]:
    """Name the plugins of a call, each with the digest of the code that it runs, or that would be run now."""
    names = dict.fromkeys([PluginId(each) for each in (plugin_of(request), *call.chain) if each is not None])
    return tuple(f"{name}@{_digest_of(parts, name, call)}" for name in names)


def _digest_of(parts: Parts, name: PluginId, call: ExactCall) -> str | None:
    # SECURITY: a call ends on the code that it began with; what was approved of newer code is not for it.
    if name in call.running:
        return call.running[name]
    plugin = parts.registry.plugins.get(name)
    return None if plugin is None else plugin.digest


def digest_of_rules(rules: Sequence[Rule], held: Collection[str]) -> str:
    """Give the digest of the rules that cover a request, as they are written, wherever they stand."""
    written = sorted(rule.fields for rule in rules if rule.id not in held)
    return hashlib.sha256(json.dumps(written, separators=(",", ":")).encode()).hexdigest()


def lacks_approval(verdict: Verdict) -> bool:
    """Tell whether a rule would have spoken had this call been approved."""
    return verdict.effect is Effect.DENY and any(_TERM in miss.unmet for miss in verdict.near_misses)
