"""Ids grow, repeat never, and are UUIDs of version 7."""

import threading
import uuid
from datetime import UTC, timedelta

import pytest

from gateway import clock


def test_now_is_in_utc() -> None:
    assert clock.now().tzinfo is UTC
    assert clock.now().utcoffset() == timedelta(0)


def test_ids_are_uuids_of_version_7_in_growing_order() -> None:
    made = [clock.new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    for each in made[::500]:
        parsed = uuid.UUID(each)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == each


def test_ids_of_many_threads_do_not_repeat() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda own=own: own.extend(clock.new_id() for _ in range(2000))) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = [each for own in made for each in own]
    assert len(set(together)) == len(together)
    assert all(own == sorted(own) for own in made)


def test_ids_grow_though_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = clock.new_id()
    monkeypatch.setattr(clock.time, "time_ns", lambda: 1_000_000)
    assert [first, *(made := [clock.new_id() for _ in range(100)])] == sorted([first, *made])


def test_ids_grow_though_one_moments_numbers_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_last_ms", 1 << 47)
    monkeypatch.setattr(clock, "_last_random", (1 << 74) - 1)
    before = str(uuid.UUID(int=((1 << 47) << 80) | (0x7 << 76) | (0xFFF << 64) | (0b10 << 62) | ((1 << 62) - 1)))
    after = clock.new_id()
    assert after > before
    assert uuid.UUID(after).version == 7
