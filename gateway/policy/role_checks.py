"""What is wrong with the roles and rules of a policy taken together."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.domain.names import OWNER, PLUGINS_GROUP, USERS_GROUP, split_subject
from gateway.domain.permission import Kind
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.problems import Problems
from gateway.policy.roles import MAX_HOPS, Membership, build_roles, is_plugin_side
from gateway.policy.rule import Rule
from gateway.policy.spelling import did_you_mean, nearest
from gateway.policy.text import ROLES

STARTER_ROLES = frozenset({OWNER, "role:operator", "role:approver", "role:auditor", "role:member"})
_MOST_HINTS = 100  # looking for what was meant is dear, and nobody reads more
_MAY_ASK_THE_GATEWAY = frozenset({"user", "role", "key", "group"})


def check_roles(lines: Sequence[Membership], problems: Problems, pause: Pause = never) -> bool:
    """Note cycles and chains that Casbin would cut; False if the roles cannot be followed."""
    parents = build_roles(lines, {}).parents
    depth: dict[str, int] = {}
    for line in paced(lines, pause):
        circle = _walk(line.member, parents, depth)
        if circle is not None:
            problems.error(ROLES, f"a circle: {' -> '.join(circle)}", line.line)
            return False
    for line in paced(lines, pause):
        # WHY: the gateway itself puts plugins and people into its own groups, which is one step more.
        steps = depth[line.member] + (is_plugin_side(line.member) or line.member == USERS_GROUP)
        if steps > MAX_HOPS:
            problems.error(
                ROLES, f"a chain of {steps} memberships from `{line.member}`: Casbin follows {MAX_HOPS}", line.line
            )
    return True


def _walk(start: str, parents: Mapping[str, tuple[str, ...]], depth: dict[str, int]) -> list[str] | None:
    """Fill in how long the longest chain from `start` is; give a circle if there is one."""
    path: list[str] = []
    stack: list[tuple[str, bool]] = [(start, False)]
    while stack:
        subject, is_done = stack.pop()
        if is_done:
            path.pop()
            depth[subject] = max((depth[whole] + 1 for whole in parents.get(subject, ())), default=0)
        elif subject in path:
            return [*path[path.index(subject) :], subject]
        elif subject not in depth:
            path.append(subject)
            stack.append((subject, True))
            stack.extend((whole, False) for whole in parents.get(subject, ()))
    return None


def check_reach(lines: Sequence[Membership], rules: Iterable[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note where a plugin would come to hold what only people may hold."""
    plugin_side = _plugin_side(lines)
    for line in lines:
        if split_subject(line.whole)[0] == "role" and line.member in plugin_side and not is_plugin_side(line.member):
            message = f"plugins belong to `{line.member}`, so it cannot be a `{line.whole}`: roles are for people"
            problems.error(ROLES, message, line.line)
    for rule in paced(rules, pause):
        if rule.kind != Kind.GATEWAY:
            continue
        prefix, _ = split_subject(rule.subject)
        # WHY: a role that plugins would come to hold is told above, at the line that makes it so.
        if prefix not in _MAY_ASK_THE_GATEWAY or (prefix != "role" and rule.subject in plugin_side):
            message = f"subject '{rule.subject}': rules of kind gateway are for user:, role:, key: and group: of people"
            problems.error(rule.file, message, rule.line)


def _plugin_side(lines: Sequence[Membership]) -> frozenset[str]:
    roles = build_roles(lines, {})
    starts = {line.member for line in lines if is_plugin_side(line.member)} | {PLUGINS_GROUP}
    return frozenset(whole for start in starts for whole in roles.closure(start))


def check_known(lines: Sequence[Membership], rules: Sequence[Rule], problems: Problems, pause: Pause = never) -> None:
    """Note groups and roles that nobody is in or that no rule names: mostly a misspelt word."""
    members = {line.whole for line in lines} | STARTER_ROLES | {PLUGINS_GROUP, USERS_GROUP}
    ruled = {rule.subject for rule in paced(rules, pause)} | {line.member for line in lines}
    empty = {name for name in ruled - members if split_subject(name)[0] in {"role", "group"}}
    idle = {line.whole for line in lines} - ruled - STARTER_ROLES
    meant = {name: nearest(name, (PLUGINS_GROUP, USERS_GROUP)) for name in empty}
    hints = {name: did_you_mean(name, members) or ": see roles.csv" for name in sorted(empty)[:_MOST_HINTS]}
    for rule in paced(rules, pause) if empty else ():
        # SECURITY: a misspelt name of the gateway's own groups would leave everybody in them unguarded.
        if near := meant.get(rule.subject):
            problems.error(rule.file, f"subject '{rule.subject}': did you mean `{near}`?", rule.line)
        elif rule.subject in empty:
            problems.warning(rule.file, f"nobody is in `{rule.subject}`{hints.get(rule.subject, '')}", rule.line)
    hints = {name: did_you_mean(name, ruled) for name in sorted(idle)[:_MOST_HINTS]}
    for line in lines:
        if line.whole in idle:
            problems.warning(ROLES, f"no rule names `{line.whole}`{hints.get(line.whole, '')}", line.line)
