"""API keys: 256 random bits of which only the SHA-256 is kept."""

import hashlib
import hmac
import re
import secrets
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.decision import timestamp
from gateway.domain.names import UserId
from gateway.domain.quota import Quota, parse_quota
from gateway.domain.request import Json
from gateway.errors import UnavailableError
from gateway.registry.store import transaction

KEY_SCOPES = frozenset({"evaluate", "execute", "approve", "consent", "admin", "audit"})
KEY_PREFIX = "hg_"
_KEY = re.compile(rf"{KEY_PREFIX}([0-9a-f]{{8}})_([A-Za-z0-9_-]{{43}})\Z")
_NOBODY = bytes(32)
_A_USE = timedelta(minutes=1)  # what is used more often is noted once


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the registry knows it: everything but the secret."""

    id: str
    user_id: UserId
    scopes: frozenset[str]
    sha256: bytes
    created_at: str
    expires_at: datetime | None
    revoked_at: str | None
    last_used_at: str | None = None  # to the minute
    rate: Quota | None = None  # of its own; None: what the settings give every key

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape, which has no secret in it."""
        return {
            "id": self.id,
            "user": self.user_id,
            "scopes": [*sorted(self.scopes)],
            "created_at": self.created_at,
            "expires_at": None if self.expires_at is None else timestamp(self.expires_at),
            "revoked_at": self.revoked_at,
            "last_used_at": self.last_used_at,
            "rate": None if self.rate is None else str(self.rate),
        }


class Keys:
    """The keys of a home."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._noted: dict[str, datetime] = {}  # when a use was last noted
        self._unwritten: set[str] = set()
        self.read()

    def read(self) -> None:
        """Read what is stored, anew."""
        connection = self._connection
        self._keys: dict[str, Key] = {row["id"]: _from_row(row) for row in connection.execute("SELECT * FROM api_key")}

    def all(self) -> tuple[Key, ...]:
        """Give all, revoked ones too, oldest first."""
        return tuple(sorted(self._keys.values(), key=lambda key: key.created_at))

    def get(self, key_id: str) -> Key | None:
        """Find one."""
        return self._keys.get(key_id)

    def users(self) -> frozenset[UserId]:
        """Name everybody who holds a key that was not revoked."""
        return frozenset(key.user_id for key in tuple(self._keys.values()) if key.revoked_at is None)

    def add(
        self,
        user_id: UserId,
        scopes: frozenset[str],
        *,
        expires_at: datetime | None,
        at: datetime,
        rate: Quota | None = None,
    ) -> tuple[Key, str]:
        """Make a key; the text of it is given here once and kept nowhere."""
        key_id = secrets.token_hex(4)
        while key_id in self._keys:
            key_id = secrets.token_hex(4)
        text = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=key_id,
            user_id=user_id,
            scopes=scopes,
            sha256=hashlib.sha256(text.encode("ascii")).digest(),
            created_at=timestamp(at),
            expires_at=expires_at,
            revoked_at=None,
            rate=rate,
        )
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO api_key(id, user_id, scopes, sha256, created_at, expires_at, rate) VALUES(?,?,?,?,?,?,?)",
                (
                    key.id,
                    user_id,
                    " ".join(sorted(scopes)),
                    key.sha256,
                    key.created_at,
                    None if expires_at is None else timestamp(expires_at),
                    None if rate is None else str(rate),
                ),
            )
        self._keys[key.id] = key
        return key, text

    def revoke(self, key: Key, *, at: datetime) -> None:
        """End a key; the next request with it is refused."""
        # INVARIANT: gone from memory first, so that a failing write can only take more away.
        self._keys.pop(key.id, None)
        with transaction(self._connection) as connection:
            connection.execute("UPDATE api_key SET revoked_at=? WHERE id=?", (timestamp(at), key.id))
        row = self._connection.execute("SELECT * FROM api_key WHERE id=?", (key.id,)).fetchone()
        self._keys[key.id] = _from_row(row)

    def holder(self, text: str, *, at: datetime) -> Key | None:
        """Give the key that `text` is, None if it is none, or one that is over."""
        match = _KEY.match(text)
        key = self._keys.get(match[1]) if match else None
        # SECURITY: the comparison is made for unknown ids too, and takes the same time for all.
        same = hmac.compare_digest(
            hashlib.sha256(text.encode("utf-8", "replace")).digest(), key.sha256 if key else _NOBODY
        )
        if key is None or not same or key.revoked_at is not None:
            return None
        if key.expires_at is not None and at >= key.expires_at:
            return None
        noted = self._noted.get(key.id)
        if noted is None or at - noted >= _A_USE:
            self._noted[key.id] = at
            self._unwritten.add(key.id)
            self._keys[key.id] = replace(key, last_used_at=timestamp(at))
        return key

    def is_live(self, key_id: str, *, at: datetime) -> bool:
        """Tell whether a key that was presented still is one."""
        key = self._keys.get(key_id)
        if key is None or key.revoked_at is not None:
            return False
        return key.expires_at is None or at < key.expires_at

    def write_uses(self) -> None:
        """Write when keys were last used.

        WHY: not with the use itself: a key is used with every request, and each write waits for the disk.

        Raises:
            UnavailableError: the registry does not take it; the next time tries again.
        """
        taken = tuple(self._unwritten)
        self._unwritten.difference_update(taken)
        uses = [(key.last_used_at, key.id) for each in taken if (key := self._keys.get(each)) is not None]
        if not uses:
            return
        try:
            with transaction(self._connection) as connection:
                connection.executemany("UPDATE api_key SET last_used_at=? WHERE id=?", uses)
        except UnavailableError:
            self._unwritten.update(taken)
            raise


def _from_row(row: sqlite3.Row) -> Key:
    return Key(
        id=row["id"],
        user_id=UserId(row["user_id"]),
        scopes=frozenset(row["scopes"].split()),
        sha256=row["sha256"],
        created_at=row["created_at"],
        expires_at=None if row["expires_at"] is None else datetime.fromisoformat(row["expires_at"]),
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        rate=None if row["rate"] is None else parse_quota(row["rate"]),
    )
