"""To show files: which folders of the host a call's cell sees, each judged and recorded before the cell runs.

Shown is what the policy lets this plugin have, for this user, and its manifest names; the rest is for `ctx.files`.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway.domain.decision import Decision, Effect
from gateway.domain.names import PluginId, plugin_subject
from gateway.domain.permission import Kind, Level
from gateway.domain.request import AccessRequest, Json
from gateway.domain.scope import canonical_scope
from gateway.errors import DeniedError, HearthgateError
from gateway.executor.confine import Showing
from gateway.flows.call import Call
from gateway.flows.decide import Context, Judged, judge, name
from gateway.flows.parts import Parts
from gateway.policy.below import covers_all, file_rules, term_of_one_use
from gateway.policy.engine import PolicySet
from gateway.registry.plugins import Plugin
from gateway.resources.mount_table import is_at_or_below
from gateway.resources.views import View, Views, own_place

_LOOKED_AT_EVERY_S = 0.5
_LEVELS = (Level.WRITE, Level.READ)  # the higher that is allowed is what is shown
MOST_SHOWN = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One folder or file that a cell sees, and the decisions by which it does: one for each whose right it takes."""

    target: str  # as the plugin names it
    view: View
    level: Level
    decisions: tuple[Decision, ...]

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "path": self.target,
            "resolved": str(self.view.path),
            "level": self.level.word,
            "decision_id": self.decisions[0].decision_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that one call's cell sees of the host's files, and why it does not see what its manifest names besides."""

    shown: tuple[Shown, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    views: Views | None = field(default=None, repr=False, compare=False)

    @property
    def decisions(self) -> list[Decision]:
        """Every decision that this sight is made of."""
        return [decision for each in self.shown for decision in each.decisions]

    @property
    def showings(self) -> tuple[Showing, ...]:
        """What the sandbox is told."""
        return tuple(
            Showing(
                source=str(each.view.path),
                target=each.target,
                identity=each.view.identity,
                writable=each.level >= Level.WRITE,
            )
            for each in self.shown
        )

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        left: list[Json] = [{"path": path, "why": why} for path, why in self.left_out]
        return {"shown": [each.as_json() for each in self.shown], "left_out": left}


NOTHING_SEEN = Sight()
_OWN_MODEL = "the model is the operator's own: `ctx.files` asks for each file"


async def find_sight(parts: Parts, plugin: Plugin, call: Call, context: Context) -> Sight:
    """Judge what a call's cell may see; nothing is recorded or used up yet."""
    policy = parts.policy.get()
    if policy is None or not plugin.manifest.file_access:
        return NOTHING_SEEN
    if not policy.parsed.model.is_shipped:
        # SECURITY: what such a model says of all that lies in a folder cannot be told from its rules.
        return Sight(left_out=tuple((path, _OWN_MODEL) for path in plugin.manifest.file_access))
    views = await asyncio.to_thread(Views, parts.resources.files)
    looking = _Looking(parts, policy, (plugin.id, *call.chain), call, context, views)
    await asyncio.to_thread(views.learn, looking.denied_scopes())
    shown: list[Shown] = []
    left_out: list[tuple[str, str]] = []
    for target in await asyncio.to_thread(looking.targets, plugin.manifest.file_access):
        outer = next((each for each in shown if is_at_or_below(target, each.target)), None)
        if outer is not None:
            left_out.append((target, f"it lies in `{outer.target}`, which is shown"))
        elif len(shown) == MOST_SHOWN:
            left_out.append((target, f"a cell is shown {MOST_SHOWN} folders at most"))
        else:
            try:
                shown.append(looking.show(target, await asyncio.to_thread(looking.look, target)))
            except HearthgateError as error:
                left_out.append((target, error.message))
    return Sight(shown=tuple(shown), left_out=tuple(left_out), views=views)


async def watch_sight(parts: Parts, sight: Sight, context: Context, execution_id: str) -> None:
    """End a call as soon as something that its cell sees would no longer be shown; runs until it is cancelled."""
    while sight.shown:
        try:
            ended = _ended(parts, sight, context)
        except Exception as error:  # noqa: BLE001 (SECURITY: what cannot be judged is not allowed, so the call ends)
            ended = f"what it sees could not be judged again ({type(error).__name__})"
        if ended is not None:
            parts.pool.kill(lambda job: job.execution_id == execution_id, ended)
            return
        await asyncio.sleep(_LOOKED_AT_EVERY_S)


def _ended(parts: Parts, sight: Sight, context: Context) -> str | None:
    """Tell which right to something seen is there no longer, None where all are."""
    policy = parts.policy.get()
    for each in sight.shown:
        for decision in each.decisions:
            if sight.views is None:
                return f"nobody can tell what lies at `{each.target}`"
            why = why_not(parts, policy, decision.request, each.view, context, sight.views)
            if why is not None:
                return f"its right to `{each.target}` ended: {why}"
    return None


@dataclass(frozen=True, slots=True)
class _Looking:
    """One look at the host on behalf of one call."""

    parts: Parts
    policy: PolicySet
    subjects: tuple[PluginId, ...]
    call: Call
    context: Context
    views: Views

    def targets(self, named: Sequence[str]) -> list[str]:
        """Name what is granted of what the manifest names: it itself, or parts of it; the outer ones first."""
        found = set[str]()
        for path in named:
            found |= {path, *self._granted_parts(path)}
        return sorted(found)

    def denied_scopes(self) -> list[str]:
        """Give the scopes of all rules that may deny any of it."""
        return [
            rule.scope
            for each in self.subjects
            for rule in file_rules(self.policy, plugin_subject(each), _LEVELS[0], Effect.DENY)
        ]

    def look(self, target: str) -> View:
        """Find one path on the host.

        Raises:
            HearthgateError: nothing of it can be shown, and why.
        """
        own = own_place(target)
        if own is not None:
            raise DeniedError(f"a cell has its own `{own}` there")
        return self.views.look(target)

    def show(self, target: str, view: View) -> Shown:
        """Judge one path that was found.

        Raises:
            HearthgateError: it is not shown, and why.
        """
        scope = canonical_scope(Kind.FILE, str(view.path))
        why = ""
        # WHY: a plain file is replaced, not written into, and so is shown to be read alone.
        for level in _LEVELS if view.is_folder else _LEVELS[-1:]:
            judged = [self._judge(each, level, scope) for each in self.subjects]
            refused = next((found for each in judged if (found := self._why_not(each, view)) is not None), None)
            if refused is None:
                decisions = tuple(name(self.parts, each) for each in judged)
                return Shown(target=target, view=view, level=level, decisions=decisions)
            why = refused
        raise DeniedError(why)

    def _judge(self, plugin_id: PluginId, level: Level, scope: str) -> Judged:
        request = AccessRequest(
            subject=plugin_subject(plugin_id), user=self.call.user, kind=Kind.FILE, level=level.word, scope=scope
        )
        return judge(self.parts, request, self.context)

    def _why_not(self, judged: Judged, view: View) -> str | None:
        return _why_not_all(self.parts, judged, view, self.views)

    def _granted_parts(self, path: str) -> Iterator[str]:
        """Name what rules allow below a path that they do not allow whole."""
        resolved = str(self.parts.resources.files.resolve(path))
        for rule in file_rules(self.policy, plugin_subject(self.subjects[0]), Level.READ, Effect.ALLOW):
            part = rule.scope.removesuffix("/*")
            if part != resolved and is_at_or_below(part, resolved):
                yield path.rstrip("/") + part[len(resolved.rstrip("/")) :]


def why_not(
    parts: Parts, policy: PolicySet | None, request: AccessRequest, view: View, context: Context, views: Views
) -> str | None:
    """Tell why a view may not be shown by now; None: it still may."""
    return (
        "no policy is in force" if policy is None else _why_not_all(parts, judge(parts, request, context), view, views)
    )


def _why_not_all(parts: Parts, judged: Judged, view: View, views: Views) -> str | None:
    """Tell why a view may not be shown whole; None: it may."""
    policy, request = judged.policy, judged.request
    if policy is None or not judged.allowed:
        return f"no {request.permission} on `{request.scope}`: {judged.verdict.reason.value}"
    level = request.level_rank or Level.READ
    for rule in file_rules(policy, request.subject, level, Effect.DENY):
        if views.touches(view, rule.scope):
            return f"rule `{rule.id}` ({rule.file}:{rule.line}) denies some of it"
    spoke = {ref.id for ref, effect in judged.verdict.spoke if effect is Effect.ALLOW}
    whole = [
        rule for rule in judged.rules if rule.id in spoke and covers_all(rule, request.scope, is_folder=view.is_folder)
    ]
    if not whole:
        return "no rule allows all below it"
    each_use = [term_of_one_use(rule) for rule in whole]
    if judged.verdict.charge is not None or all(each_use):
        return f"each use of it is judged by itself: `{next(filter(None, each_use), 'rate')}`"
    consent = parts.registry.consents.get(judged.facts.consent_id or "")
    if consent is not None and consent.once:
        return "the consent to it is for one use"
    return None
