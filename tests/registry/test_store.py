"""The registry: what it says is durable, one transaction at a time, whoever asks."""

import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.errors import UnavailableError
from gateway.registry.memory import LastPolicy, Memory
from gateway.registry.store import open_registry, transaction


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    open_registry(tmp_path / "registry.db").close()
    assert (tmp_path / "registry.db").stat().st_mode & 0o077 == 0


def test_a_number_is_given_once_to_whichever_thread(tmp_path: Path) -> None:
    connection = open_registry(tmp_path / "registry.db")
    memory = Memory(connection)
    given: list[int] = []
    errors: list[Exception] = []

    def take() -> None:
        try:
            given.extend(memory.next_generation() for _ in range(100))
        except sqlite3.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(given) == list(range(1, 401))
    connection.close()
    connection = open_registry(tmp_path / "registry.db")
    assert Memory(connection).next_generation() == 401
    connection.close()


def test_a_disk_that_takes_no_more_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    connection = open_registry(tmp_path / "registry.db")
    memory = Memory(connection)
    memory.note_policy("before", 1)
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(UnavailableError, match="registry cannot be written"):
        memory.note_policy("x" * 1_000_000, 2)
    connection.execute("PRAGMA max_page_count=100000")
    assert memory.last_policy() == LastPolicy(version="before", generation=1)
    memory.note_policy("after", 3)
    assert memory.last_policy() == LastPolicy(version="after", generation=3)
    connection.close()


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    connection = open_registry(tmp_path / "registry.db")

    def write_twice() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO last_policy(version, generation) VALUES('x', 1)")
            connection.execute("INSERT INTO last_policy(version, generation) VALUES(NULL, 1)")

    with pytest.raises(sqlite3.IntegrityError):
        write_twice()
    assert Memory(connection).last_policy() is None
    with transaction(connection):
        connection.execute("INSERT INTO last_policy(version, generation) VALUES('y', 2)")
    connection.close()
    connection = open_registry(tmp_path / "registry.db")
    last = Memory(connection).last_policy()
    assert last is not None
    assert (last.version, last.generation) == ("y", 2)
    connection.close()
