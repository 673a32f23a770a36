"""A key's last use is told, to the minute, and costs its user no write."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.names import UserId
from gateway.errors import UnavailableError
from gateway.registry.keys import Keys
from gateway.registry.store import open_registry

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_the_last_use_is_noted_once_a_minute_and_written_when_told_to(tmp_path: Path) -> None:
    connection = open_registry(tmp_path / "registry.db")
    keys = Keys(connection)
    key, text = keys.add(UserId("alice"), frozenset({"audit"}), expires_at=None, at=NOON)
    assert key.as_json()["last_used_at"] is None
    writes = connection.total_changes

    def shown() -> str | None:
        found = keys.get(key.id)
        return None if found is None else found.last_used_at

    for second, noted in ((0, "12:00:00"), (59, "12:00:00"), (60, "12:01:00"), (61, "12:01:00")):
        assert keys.holder(text, at=NOON + timedelta(seconds=second)) is not None
        assert noted in str(shown()), second
    assert keys.holder(f"{text[:-1]}!", at=NOON + timedelta(hours=1)) is None
    assert "12:01:00" in str(shown())
    assert connection.total_changes == writes  # a use writes nothing by itself
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(UnavailableError):
        keys.write_uses()
    connection.execute("PRAGMA query_only = OFF")
    keys.write_uses()
    assert connection.total_changes == writes + 1
    keys.write_uses()
    assert connection.total_changes == writes + 1
    connection.close()
    connection = open_registry(tmp_path / "registry.db")
    assert "12:01:00" in str(Keys(connection).all()[0].last_used_at)
    connection.close()


def test_the_use_of_a_key_that_was_revoked_meanwhile_brings_it_not_back(tmp_path: Path) -> None:
    connection = open_registry(tmp_path / "registry.db")
    keys = Keys(connection)
    key, text = keys.add(UserId("alice"), frozenset({"audit"}), expires_at=None, at=NOON)
    assert keys.holder(text, at=NOON) is not None
    keys.revoke(key, at=NOON)
    keys.write_uses()
    assert keys.holder(text, at=NOON + timedelta(minutes=5)) is None
    connection.close()
