"""User data: what the gateway's host knows of a user, as a name, a language, a time zone."""

from pathlib import Path

from gateway.domain.request import Json
from gateway.resources.store import StoreLimits, UserStore


class Users(UserStore):
    """Values of a user's profile; may lie in the vault's file, on a shelf of its own."""

    def __init__(self, path: Path, limits: StoreLimits | None = None) -> None:
        super().__init__(path, shelf="user", limits=limits)

    def get(self, user: str, name: str) -> Json:
        """Give one value of `user`'s profile.

        Raises:
            NotFoundError: there is none of that name.

        """
        return self.read(user, name)

    def set(self, user: str, name: str, value: Json) -> None:
        """Put one value into `user`'s profile; limits and errors are those of `write`."""
        self.write(user, name, value)
