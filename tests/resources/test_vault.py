import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.request import Json
from gateway.errors import ConfigError, MalformedError, NotFoundError, TooLargeError, UnavailableError
from gateway.resources.store import StoreLimits
from gateway.resources.users import Users
from gateway.resources.vault import Vault

SMALL = StoreLimits(value_bytes=100, names=3, total_bytes=250, depth=4)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(tmp_path / "vault.db")
    yield vault
    vault.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(tmp_path / "small.db", SMALL)
    yield vault
    vault.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_what_was_written_is_read_again(vault: Vault, value: Json) -> None:
    try:
        vault.write("alice", "a/b", value)
    except MalformedError:
        return  # a lone surrogate: not JSON on any wire
    assert vault.read("alice", "a/b") == value


def test_no_user_reaches_another_users_values(vault: Vault) -> None:
    vault.write("alice", "notes/one", "hers")
    vault.write("bob", "notes/one", "his")
    assert vault.read("alice", "notes/one") == "hers"
    vault.delete("bob", "notes/one")
    assert vault.read("alice", "notes/one") == "hers"
    with pytest.raises(NotFoundError, match="notes/one"):
        vault.read("bob", "notes/one")
    assert vault.list("bob") == []
    assert vault.forget("bob") == 0
    assert vault.list("alice") == ["notes/one"]


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("", ["a", "a%b", "a-b", "a/b", "a/b/c", "a0", "aXb"]),
        ("a", ["a", "a/b", "a/b/c"]),
        ("a/b", ["a/b", "a/b/c"]),
        ("a%b", ["a%b"]),
        ("a_b", []),
        ("%", []),
        ("a/", []),
        ("' OR 1=1 --", []),
    ],
)
def test_list_names_what_lies_below_and_nothing_beside(vault: Vault, prefix: str, names: list[str]) -> None:
    for name in ("a", "a/b", "a/b/c", "a0", "aXb", "a%b", "a-b"):
        vault.write("alice", name, 1)
    assert vault.list("alice", prefix) == names


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(name=st.text(min_size=1), user=st.text(min_size=1))
def test_any_text_is_a_name_and_never_a_command(vault: Vault, name: str, user: str) -> None:
    try:
        vault.write(user, name, 7)
    except MalformedError:
        return
    assert vault.read(user, name) == 7
    assert name in vault.list(user)
    vault.delete(user, name)
    with pytest.raises(NotFoundError):
        vault.read(user, name)


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("x" * 99, TooLargeError),
        ("ä" * 50, TooLargeError),
        (nested(5), TooLargeError),
        (nested(100_000), TooLargeError),
        (float("nan"), MalformedError),
        (float("inf"), MalformedError),
        ("\ud800", MalformedError),
        (10**5000, MalformedError),
    ],
    ids=["long", "long in bytes", "deep", "very deep", "nan", "inf", "surrogate", "huge number"],
)
def test_a_value_out_of_bounds_is_refused_and_changes_nothing(
    small: Vault, value: Json, error: type[Exception]
) -> None:
    small.write("alice", "x", "before")
    with pytest.raises(error):
        small.write("alice", "x", value)
    assert small.read("alice", "x") == "before"


def test_values_at_the_bounds_fit(small: Vault) -> None:
    small.write("alice", "x", "x" * 98)
    small.write("alice", "x", nested(4))


def test_a_user_has_so_many_names_and_no_more_but_may_rewrite_them(small: Vault) -> None:
    for name in ("a", "b", "c"):
        small.write("alice", name, 1)
    with pytest.raises(TooLargeError, match="3 names"):
        small.write("alice", "d", 1)
    small.write("alice", "c", 2)
    small.write("bob", "d", 1)
    small.delete("alice", "a")
    small.write("alice", "d", 1)


def test_a_user_has_so_many_bytes_and_no_more(small: Vault) -> None:
    small.write("alice", "a", "x" * 98)
    small.write("alice", "b", "x" * 98)
    with pytest.raises(TooLargeError, match="250 bytes"):
        small.write("alice", "c", "x" * 49)
    small.write("alice", "c", "x" * 48)
    small.write("alice", "a", "y" * 98)


def test_the_file_is_private_and_so_are_its_companions(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        vault = Vault(tmp_path / "v.db")
        vault.write("alice", "a", 1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    vault.close()
    assert set(modes) >= {"v.db", "v.db-wal", "vault.key"}
    assert modes.pop("keys") == 0o700
    assert set(modes.values()) == {0o600}


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "v.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError):
        Vault(tmp_path / "v.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UnavailableError, match=r"v\.db"):
        Vault(tmp_path / "v.db")


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.db*")))


def test_erased_values_are_gone_from_the_file(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v.db")
    vault.write("alice", "a", "my-secret-words")
    with sqlite3.connect(tmp_path / "v.db") as db:
        (sealed,) = db.execute("SELECT value FROM sealed").fetchone()
    assert sealed in bytes_of(tmp_path)
    assert vault.forget("alice") == 1
    vault.close()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert sealed not in bytes_of(tmp_path)


def test_without_the_key_neither_value_nor_name_nor_user_can_be_read(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v.db")
    vault.write("alice-in-wonderland", "diary/monday", "my-secret-words")
    found = bytes_of(tmp_path)
    vault.close()
    assert not [each for each in (b"alice", b"diary", b"monday", b"secret") if each in found]


def test_a_value_moved_to_another_place_or_changed_is_not_read(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v.db")
    vault.write("alice", "a", "hers")
    vault.write("bob", "a", "his")
    with sqlite3.connect(tmp_path / "v.db") as db:
        db.execute("UPDATE sealed SET value = (SELECT value FROM sealed ORDER BY place LIMIT 1)")
    db.close()
    told = []
    for user in ("alice", "bob"):
        try:
            told.append(vault.read(user, "a"))
        except UnavailableError:
            told.append(None)
    vault.close()
    assert told in (["hers", None], [None, "his"])


def _remove(key: Path) -> None:
    key.unlink()


def _exchange(key: Path) -> None:
    key.write_bytes(bytes(32))


def _cut(key: Path) -> None:
    key.write_bytes(b"short")


def _open_to_all(key: Path) -> None:
    key.chmod(0o644)


@pytest.mark.parametrize("spoil", [_remove, _exchange, _cut, _open_to_all])
def test_a_vault_without_its_own_key_is_not_opened_and_loses_nothing(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    vault = Vault(tmp_path / "v.db")
    vault.write("alice", "a", 1)
    vault.close()
    key = tmp_path / "keys" / "vault.key"
    kept = key.read_bytes()
    spoil(key)
    with pytest.raises(ConfigError, match=r"vault\.key"):
        Vault(tmp_path / "v.db")
    key.write_bytes(kept)
    key.chmod(0o600)
    vault = Vault(tmp_path / "v.db")
    assert vault.read("alice", "a") == 1
    vault.close()


def test_many_threads_write_without_loss(vault: Vault) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [vault.write("alice", f"{n}/{i}", i) for i in range(20)]) for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vault.list("alice")) == 100


def test_a_closed_vault_answers_that_it_is_not_available(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v.db")
    vault.close()
    vault.close()
    with pytest.raises(UnavailableError):
        vault.read("alice", "a")


def test_user_data_and_vault_share_a_file_and_nothing_else(tmp_path: Path, vault: Vault) -> None:
    users = Users(tmp_path / "vault.db")
    users.set("alice", "language", "de")
    vault.write("alice", "language", "none of it")
    assert users.get("alice", "language") == "de"
    assert users.list("alice") == ["language"]
    assert vault.forget("alice") == 1
    assert users.get("alice", "language") == "de"
    users.close()


def test_values_outlive_the_one_who_wrote_them(tmp_path: Path) -> None:
    first = Vault(tmp_path / "v.db")
    first.write("alice", "a", {"b": [1, None, "ü"]})
    first.close()
    second = Vault(tmp_path / "v.db")
    assert second.read("alice", "a") == {"b": [1, None, "ü"]}
    second.close()
