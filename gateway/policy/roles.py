"""Who is what: the `g` lines of roles.csv and the memberships that the gateway adds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, split_subject
from gateway.policy.encode import encode_field
from gateway.policy.lines import Line, split_lines
from gateway.policy.pauses import Pause, never
from gateway.policy.problems import Problems
from gateway.policy.subjects import check_subject

MAX_HOPS = 9  # Casbin follows no longer chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One `g` line: `member` is, or belongs to, `whole`."""

    member: str
    whole: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Who belongs to what, directly."""

    lines: tuple[Membership, ...] = ()
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by the lines alone
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_added(self, added: Mapping[str, tuple[str, ...]]) -> "Roles":
        """Give the same lines with other memberships of the gateway's."""
        before = self.added
        changed = [who for who in {**before, **added} if before.get(who) != added.get(who)]
        parents = dict(self.parents)
        for who in changed:
            name = encode_field(who)
            wholes = dict.fromkeys([*self.written.get(name, ()), *map(encode_field, added.get(who, ()))])
            if wholes:
                parents[name] = tuple(wholes)
            else:
                parents.pop(name, None)
        return Roles(lines=self.lines, added=dict(added), written=self.written, parents=parents)

    def closure(self, subject: str) -> frozenset[str]:
        """Give `subject` and everything it belongs to, as far as Casbin would follow."""
        seen = {subject}
        border = [subject]
        for _ in range(MAX_HOPS):
            border = [whole for member in border for whole in self.parents.get(member, ()) if whole not in seen]
            if not border:
                break
            seen.update(border)
        return frozenset(seen)

    def knows(self, subject: str) -> bool:
        """Tell whether anything is said of `subject`."""
        return subject in self.parents

    def links(self) -> Iterable[tuple[str, str]]:
        """Give every direct membership once."""
        return ((member, whole) for member, wholes in self.parents.items() for whole in wholes)


def build_roles(lines: Iterable[Membership], added: Mapping[str, tuple[str, ...]]) -> Roles:
    """Put the written lines and the memberships that the gateway adds together."""
    lines = tuple(lines)
    wholes: dict[str, dict[str, None]] = {}
    for line in lines:
        wholes.setdefault(line.member, {})[line.whole] = None
    written = {member: tuple(named) for member, named in wholes.items()}
    return Roles(lines=lines, written=written, parents=written).with_added(added)


def parse_roles(
    file: str, data: bytes, problems: Problems, pause: Pause = never, *, known: dict[str, str]
) -> tuple[Membership, ...]:
    """Give the memberships that a roles file states; `known` are sound subjects, and takes in those found."""
    found: dict[tuple[str, str], Membership] = {}
    for line in split_lines(file, data, problems, pause):
        membership = _membership(line, problems, known)
        if membership is None:
            continue
        pair = (membership.member, membership.whole)
        if pair in found:
            problems.warning(file, f"the same as line {found[pair].line}", line.number)
        found.setdefault(pair, membership)
    return tuple(found.values())


def _membership(line: Line, problems: Problems, known: dict[str, str]) -> Membership | None:
    def error(message: str) -> None:
        problems.error(line.file, message, line.number)

    kind, *fields = line.fields
    if kind == "p":
        error("`p` lines belong in rules/")
    elif kind != "g":
        error(f"unknown record type '{kind[:80]}': a line of roles begins with `g`")
    elif len(fields) != 2:  # noqa: PLR2004 (member and whole)
        error(f"{len(fields) + 1} fields, 3 expected: g, who, the group or role")
    else:
        sound = [field in known or check_subject(field, error) for field in fields]
        if all(sound) and _may_belong(fields[0], fields[1], error):
            member, whole = (known.setdefault(field, field) for field in fields)
            return Membership(member=member, whole=whole, line=line.number)
    return None


def _may_belong(member: str, whole: str, error: Callable[[str], None]) -> bool:
    prefix, _ = split_subject(whole)
    if prefix == "tier" or whole in {PLUGINS_GROUP, USERS_GROUP}:
        error(f"nobody is put into `{whole}` by hand: the gateway does that from its registry")
        return False
    if prefix not in {"group", "role"}:
        error(f"`{whole}` has no members: only a `group:` or a `role:` has")
        return False
    if prefix == "role" and is_plugin_side(member):
        error(f"`{member}` cannot be a `{whole}`: roles are for people and their keys")
        return False
    return True


def is_plugin_side(subject: str) -> bool:
    """Tell whether `subject` is a plugin, or stands for plugins by the gateway's own doing."""
    return split_subject(subject)[0] in {"plugin", "tier"} or subject == PLUGINS_GROUP
