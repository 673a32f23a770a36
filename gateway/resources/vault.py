"""The vault: what plugins keep for a user, under scopes."""

from pathlib import Path

from gateway.resources.store import StoreLimits, UserStore


class Vault(UserStore):
    """JSON values under scopes, each user's apart from every other's."""

    def __init__(self, path: Path, limits: StoreLimits | None = None) -> None:
        super().__init__(path, shelf="vault", limits=limits)
