"""Watching folders that people edit: something may have changed, look again."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

LOGGER = logging.getLogger("hearthgate.watch")
_READS = frozenset({"opened", "closed_no_write"})
_LOOK_S = 0.5  # how often a folder that was replaced is looked for
_LONGEST_WAIT_S = 2.0  # a folder that never comes to rest is looked at all the same


class FolderWatch:
    """Calls `on_change` from a thread of its own, once edits of the folders have come to rest.

    It tells that something may have changed, not what: whoever is called compares contents. Only the folders
    named are watched, not those below, where a version control system may keep thousands. A folder that
    is deleted, replaced or not there yet is watched again as soon as it is there. Where the folders are not always
    the same ones a function names them, from any thread, each time it is asked.
    """

    def __init__(
        self,
        folders: Sequence[Path] | Callable[[], Sequence[Path]],
        on_change: Callable[[], None],
        debounce_s: float = 0.2,
    ) -> None:
        self._folders = folders if callable(folders) else lambda: folders
        self._on_change = on_change
        self._debounce_s = debounce_s
        self._wake = threading.Event()
        self._stopping = False
        self._last_event = 0.0
        self._first_event: float | None = None
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, name="folder-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch; what changes from now on is told."""
        self._watch_anew()
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; returns once no thread of it runs."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._drop_observer()

    def _note(self) -> None:
        now = time.monotonic()
        self._last_event = now
        self._first_event = self._first_event or now
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            if self._stopping:
                break
            if self._identities() != self._watched or not self._observer_lives():
                self._watch_anew()
                self._note()
            if self._is_due():
                self._first_event = None
                self._tell()

    def _pause_s(self) -> float:
        if self._first_event is None:
            return _LOOK_S
        return max(0.01, min(self._debounce_s - (time.monotonic() - self._last_event), _LOOK_S))

    def _is_due(self) -> bool:
        if self._first_event is None:
            return False
        now = time.monotonic()
        return now - self._last_event >= self._debounce_s or now - self._first_event >= _LONGEST_WAIT_S

    def _tell(self) -> None:
        try:
            self._on_change()
        except Exception:
            LOGGER.exception("what was to be done after an edit failed")

    def _identities(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for folder in self._folders():
            try:
                state = folder.stat()
            except OSError:
                continue
            found[folder] = (state.st_dev, state.st_ino)
        return found

    def _observer_lives(self) -> bool:
        return not self._watched or (self._observer is not None and self._observer.is_alive())

    def _watch_anew(self) -> None:
        self._drop_observer()
        self._watched = self._identities()
        if not self._watched:
            return
        try:
            self._observer = self._observe(Observer())
        except OSError as error:
            LOGGER.warning("the system cannot tell of edits (%s): looking every second instead", error)
            self._observer = self._observe(PollingObserver(timeout=1))

    def _observe(self, observer: BaseObserver) -> BaseObserver:
        handler = _Handler(self._note)
        try:
            for folder in self._watched:
                observer.schedule(handler, str(folder.resolve()), recursive=False)
            observer.start()
        except OSError:
            observer.stop()
            raise
        return observer

    def _drop_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            if observer.is_alive():
                observer.join()


class _Handler(FileSystemEventHandler):
    """Passes on that something was written; reading changes nothing."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take one event of the system."""
        if event.event_type not in _READS:
            self._note()
