"""Rotation and retention of an open home, by its settings and by its people."""

from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.flows.keep_log import Keeping, keep_log

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

KEEPING = Keeping(segment_bytes=1 << 40, segment_days=31)


def files(home: "Home") -> list[str]:
    return sorted(each.name for each in (home.folder / "data" / "segments").glob("*.db"))


def later(home: "Home", days: float) -> None:
    home.at(home.parts.now() + timedelta(days=days))


def test_a_file_is_closed_when_it_is_old_and_dropped_when_it_was_kept_long_enough(home: "Home") -> None:
    home.do(keep_log(home.parts, KEEPING))
    assert files(home) == []
    later(home, 32)
    home.do(keep_log(home.parts, KEEPING))
    assert len(files(home)) == 1
    assert [row["details"]["first"] for row in home.records(event_type="segment_closed")] == [1]
    home.do(keep_log(home.parts, Keeping(segment_bytes=1 << 40, segment_days=31, keep_days=365)))
    assert len(files(home)) == 1
    later(home, 340)
    home.do(keep_log(home.parts, Keeping(segment_bytes=1 << 40, segment_days=31, keep_days=365)))
    (told,) = home.records(event_type="segment_dropped")
    assert (told["details"]["first"], told["details"]["why"]) == (1, "keep_days = 365")
    assert len(files(home)) == 1, "the second file was closed by the same call"
    home.reopen()
    assert home.owner.get("/v1/audit/checkpoint").status_code == 200


def test_a_file_is_closed_when_it_is_large_and_only_so_many_are_kept(home: "Home") -> None:
    large = Keeping(segment_bytes=1, segment_days=31, keep_segments=2)
    for _ in range(4):
        home.do(keep_log(home.parts, large))
    assert len(files(home)) == 2
    assert [row["details"]["why"] for row in home.records(event_type="segment_dropped")] == ["keep_segments = 2"] * 2


def test_who_may_closes_the_file_by_hand_and_nobody_else(home: "Home") -> None:
    for person in (home.stranger, home.person("dave", "audit", "admin"), home.person("carol", "admin")):
        assert person.post("/v1/audit/rotate", {"reason": "tidy"}).status_code in {401, 403}
    answer = home.owner.post("/v1/audit/rotate", {"reason": "tidy"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["first"] == 1
    (told,) = home.records(event_type="segment_closed")
    assert told["details"]["reason"] == "tidy"


def test_the_settings_are_the_homes(make_home: "MakeHome") -> None:
    settings = make_home(settings="[log]\nsegment_days = 7\nkeep_segments = 3\n").house.settings.log
    assert (settings.segment_days, settings.keep_segments, settings.keep_days) == (7, 3, None)
    assert settings.segment_bytes == 5_000_000_000
