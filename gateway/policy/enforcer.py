"""`casbin.Enforcer` with another `enforce_ex`: the same answers, found through an index.

Model, adapter, role manager, effector, functions and the management API stay Casbin's.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import casbin
from casbin.core_enforcer import EnforceContext

from gateway.policy.anchors import Known
from gateway.policy.compiled import Compiled
from gateway.policy.compiling import compile_enforcer
from gateway.policy.effects import Ruling, explains_every_match
from gateway.policy.expression import PLAIN, Unproven
from gateway.policy.functions import KNOWN_FUNCTIONS
from gateway.policy.pauses import Pause, never

_EDITS = ("add_", "_add_", "remove_", "_remove_", "update_", "_update_", "delete_", "set_", "clear_", "load_",
          "build_", "init_", "enable_", "_initialize")  # fmt: skip
_SETTINGS = frozenset({"model", "fm", "eft", "rm_map", "cond_rm_map"})


class GateEnforcer(casbin.Enforcer):  # type: ignore[misc] # casbin is not typed
    """A Casbin enforcer that compiles its rules, and leaves to stock what it cannot prove equal.

    `known` names functions of the matcher that depend on their arguments alone; `opaque` are types whose
    values requests may carry to the other functions. `fallback_reason` tells why stock Casbin answers.
    """

    def __init__(
        self,
        model: object = None,
        adapter: object = None,
        *,
        known: Mapping[str, Known] = KNOWN_FUNCTIONS,
        opaque: Iterable[type] = (),
        **more: object,
    ) -> None:
        self._compiled: Compiled | None = None
        self._reason: str | None = None
        self._known = dict(known)
        self._carried = PLAIN | frozenset(opaque)
        super().__init__(model, adapter, **more)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name in _SETTINGS:
            self.drop_compiled()

    @property
    def fallback_reason(self) -> str | None:
        """Why stock Casbin answers every request, None if it need not."""
        if self._compiled is None:
            self.compiled()
        return self._reason

    def drop_compiled(self) -> None:
        """Forget what was compiled: something has changed."""
        object.__setattr__(self, "_compiled", None)
        object.__setattr__(self, "_reason", None)

    def compiled(self, pause: Pause = never) -> Compiled | None:
        """Give the rules compiled, None if that cannot be proven to be equal."""
        compiled = self._compiled
        if compiled is None and self._reason is None:
            try:
                compiled = compile_enforcer(self, self._known, pause)
            except Unproven as reason:
                self._reason = str(reason)
            # INVARIANT: the set is read through this one attribute and never changed.
            self._compiled = compiled
        return compiled

    def use_compiled(self, compiled: Compiled) -> None:
        """Take rules that were compiled from those of another enforcer by the same edits."""
        self._compiled = compiled

    def enforce_ex(self, *rvals: Any) -> tuple[bool, Sequence[str]]:  # noqa: ANN401 (as in Casbin)
        """Answer one request as stock Casbin does: whether it is allowed, and the rule that explains it."""
        found = self._find(rvals)
        if found is None:
            answer: tuple[bool, Sequence[str]] = super().enforce_ex(*rvals)
            return answer
        allowed, explained = found
        self._log(rvals, allowed=allowed)
        return allowed, explained

    def _find(self, rvals: tuple[Any, ...]) -> tuple[bool, Sequence[str]] | None:
        if not self.enabled or (rvals and isinstance(rvals[0], EnforceContext)):
            return None
        compiled = self._compiled or self.compiled()
        policy = self.model["p"]["p"].policy
        if compiled is None or not self._can_ask(compiled, rvals, len(policy)):
            return None
        ruling = Ruling(self.eft, every_match=explains_every_match())
        try:
            explained = self._judge(compiled, rvals, ruling)
        except Unproven:
            return None
        allowed = ruling.allowed(len(policy))
        if explained is None:
            return allowed, []
        return allowed, (policy if len(policy) == len(compiled.rows) else compiled.rows)[explained]

    def _can_ask(self, compiled: Compiled, rvals: tuple[Any, ...], count: int) -> bool:
        if count != compiled.count or len(rvals) != len(self.model["r"]["r"].tokens):
            return False
        texts = compiled.matcher.texts
        return all(
            type(value) is str or (place not in texts and type(value) in self._carried)
            for place, value in enumerate(rvals)
        )

    def _judge(self, compiled: Compiled, rvals: tuple[Any, ...], ruling: Ruling) -> int | None:
        live, effect_at = compiled.matcher.live, effect_column(self.model)
        for number in compiled.matching(rvals):
            row = compiled.rows[number]
            if live is not None and not _holds(live(rvals + row)):
                continue
            ruling.match(number, None if effect_at is None else row[effect_at])
            if ruling.is_final:
                break
        return ruling.explained

    def _log(self, rvals: tuple[Any, ...], *, allowed: bool) -> None:
        level = logging.INFO if allowed else logging.WARNING
        if self.logger.isEnabledFor(level):
            self.logger.log(level, "Request: %s ---> %s", ", ".join(map(str, rvals)), allowed)


def effect_column(model: Any) -> int | None:  # noqa: ANN401 (casbin is not typed)
    """Give the place of a rule's effect in its row, None if rules have none."""
    tokens = model["p"]["p"].tokens
    return tokens.index("p_eft") if "p_eft" in tokens else None


def _holds(answer: object) -> bool:
    if isinstance(answer, bool):
        return answer
    if isinstance(answer, float):
        return answer != 0
    raise RuntimeError("matcher result should be bool, int or float")


def _dropping(edit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(edit)
    def dropped(self: GateEnforcer, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (as in Casbin)
        self.drop_compiled()
        try:
            return edit(self, *args, **kwargs)
        finally:
            self.drop_compiled()

    return dropped


def _watch_edits() -> None:
    """Let every method by which Casbin changes anything drop what was compiled."""
    for name in dir(casbin.Enforcer):
        edit = getattr(casbin.Enforcer, name)
        # WHY: by name, so that the methods a later Casbin adds are watched too.
        if name.startswith(_EDITS) and callable(edit) and name not in vars(GateEnforcer):
            setattr(GateEnforcer, name, _dropping(edit))


_watch_edits()
