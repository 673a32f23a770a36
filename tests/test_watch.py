import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import watch
from gateway.watch import FolderWatch

PATIENCE_S = 15.0


class Seen:
    """Counts calls, and waits for one that came after a moment."""

    def __init__(self, look: Callable[[], object]) -> None:
        self.states: list[object] = []
        self._look = look

    def __call__(self) -> None:
        self.states.append(self._look())

    def until(self, wanted: object) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.states:
            assert time.monotonic() < deadline, f"waited for {wanted!r}, saw {self.states!r}"
            time.sleep(0.01)


@contextmanager
def watching(folder: Path, on_change: Callable[[], None]) -> Iterator[FolderWatch]:
    before = set(threading.enumerate())
    watched = FolderWatch([folder, folder / "rules"], on_change, debounce_s=0.05)
    watched.start()
    try:
        yield watched
    finally:
        watched.stop()
        assert [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rules = tmp_path / "policies" / "rules"
    rules.mkdir(parents=True)
    (rules / "10.csv").write_text("one")
    return tmp_path / "policies"


def text_of(folder: Path) -> Callable[[], object]:
    def look() -> object:
        path = folder / "rules" / "10.csv"
        return path.read_text() if path.exists() else None

    return look


def write(path: Path) -> None:
    path.write_text("two")


def rename_over(path: Path) -> None:
    fresh = path.with_name(".10.csv.new")
    fresh.write_text("two")
    fresh.rename(path)


def remove_then_write(path: Path) -> None:
    path.unlink()
    path.write_text("two")


def replace_rules(path: Path) -> None:
    fresh = path.parent.with_name("fresh")
    fresh.mkdir()
    (fresh / path.name).write_text("two")
    shutil.rmtree(path.parent)
    fresh.rename(path.parent)


def replace_everything(path: Path) -> None:
    folder = path.parent.parent
    fresh = folder.with_name("fresh")
    (fresh / "rules").mkdir(parents=True)
    (fresh / "rules" / path.name).write_text("two")
    folder.rename(folder.with_name("old"))
    fresh.rename(folder)


@pytest.mark.parametrize("edit", [write, rename_over, remove_then_write, replace_rules, replace_everything])
def test_an_edit_is_told_and_so_is_the_next_one(folder: Path, edit: Callable[[Path], None]) -> None:
    seen = Seen(text_of(folder))
    path = folder / "rules" / "10.csv"
    with watching(folder, seen):
        edit(path)
        seen.until("two")
        path.write_text("three")
        seen.until("three")


def test_a_deletion_is_told(folder: Path) -> None:
    seen = Seen(text_of(folder))
    with watching(folder, seen):
        (folder / "rules" / "10.csv").unlink()
        seen.until(None)


def test_a_folder_that_goes_and_comes_back_is_watched_again(folder: Path) -> None:
    seen = Seen(text_of(folder))
    with watching(folder, seen):
        shutil.rmtree(folder)
        seen.until(None)
        (folder / "rules").mkdir(parents=True)
        (folder / "rules" / "10.csv").write_text("two")
        seen.until("two")
        (folder / "rules" / "10.csv").write_text("three")
        seen.until("three")


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    seen = Seen(text_of(folder))
    with watching(folder, seen):
        (folder / "rules").mkdir(parents=True)
        (folder / "rules" / "10.csv").write_text("two")
        seen.until("two")


def test_a_file_written_in_pieces_is_told_once_it_rests(folder: Path) -> None:
    seen = Seen(text_of(folder))
    with watching(folder, seen), (folder / "rules" / "10.csv").open("w") as file:
        for _ in range(20):
            file.write("x" * 10)
            file.flush()
        seen.until("x" * 200)
    assert len(seen.states) < 20


def test_reading_tells_nothing(folder: Path) -> None:
    seen = Seen(text_of(folder))
    with watching(folder, seen):
        (folder / "rules" / "10.csv").write_text("two")
        seen.until("two")
        told = len(seen.states)
        for _ in range(50):
            (folder / "rules" / "10.csv").read_text()
        (folder / "rules" / "10.csv").write_text("three")
        seen.until("three")
    assert len(seen.states) <= told + 2


def test_a_failure_of_the_one_told_does_not_end_the_watch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen(text_of(folder))

    def fail_once() -> None:
        seen()
        if len(seen.states) == 1:
            raise RuntimeError("not now")

    with watching(folder, fail_once):
        (folder / "rules" / "10.csv").write_text("two")
        seen.until("two")
        (folder / "rules" / "10.csv").write_text("three")
        seen.until("three")
    assert "not now" in caplog.text


def test_without_inotify_it_looks_again_and_again_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left() -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(watch, "Observer", none_left)
    seen = Seen(text_of(folder))
    with watching(folder, seen):
        (folder / "rules" / "10.csv").write_text("two, and longer")
        seen.until("two, and longer")
    assert "inotify instance limit reached" in caplog.text


def test_stopping_twice_or_before_the_start_is_fine(folder: Path) -> None:
    watched = FolderWatch([folder], lambda: None)
    watched.stop()
    watched = FolderWatch([folder], lambda: None)
    watched.start()
    watched.stop()
    watched.stop()
