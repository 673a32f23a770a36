"""Casbin's view of who belongs to what in one policy set: it answers, and never changes or grows."""

from collections.abc import Iterable

from casbin.rbac import RoleManager

from gateway.policy.roles import Roles


class FixedRoles(RoleManager):  # type: ignore[misc] # casbin is not typed
    """A role manager over the memberships of a policy set."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self.closure = roles.closure

    def has_link(self, name1: str, name2: str, *_domain: str) -> bool:
        """Tell whether `name1` is `name2` or belongs to it."""
        return name2 in self._roles.closure(name1)

    def get_roles(self, name: str, *_domain: str) -> list[str]:
        """Give what `name` belongs to directly."""
        return list(self._roles.parents.get(name, ()))

    def get_users(self, name: str, *_domain: str) -> list[str]:
        """Give who belongs to `name` directly."""
        return [member for member, whole in self._roles.links() if whole == name]

    def clear(self) -> None:
        """Refuse: another policy set is built instead."""
        self._refuse()

    def add_link(self, name1: str, name2: str, *_domain: str) -> None:  # noqa: ARG002 (as in Casbin)
        """Refuse: another policy set is built instead."""
        self._refuse()

    def delete_link(self, name1: str, name2: str, *_domain: str) -> None:  # noqa: ARG002 (as in Casbin)
        """Refuse: another policy set is built instead."""
        self._refuse()

    def print_roles(self) -> None:
        """Print nothing."""

    def links(self) -> Iterable[tuple[str, str]]:
        """Give every direct membership once."""
        return self._roles.links()

    def _refuse(self) -> None:
        raise RuntimeError("the roles of a policy set are fixed: build another set")
