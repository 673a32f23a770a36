"""To forget a person in every file of a log that goes on being written."""

import asyncio
import sqlite3
from functools import partial
from pathlib import Path

from gateway.audit.erase import Erased, forget_in_closed
from gateway.audit.group_commit import GroupCommit
from gateway.audit.segment import Segment
from gateway.audit.store import Store
from gateway.errors import LogUnavailableError

SCRUB_S = 20.0  # how long it waits for readers to let go of what is to be forgotten
AGAIN_S = 0.25


class Forgetting:
    """Takes people out of the files of one log, between its commits."""

    def __init__(self, folder: Path, store: Store, commits: GroupCommit) -> None:
        self._folder, self._store, self._commits = folder, store, commits

    async def forget(self, user: str) -> Erased:
        """Take every value of a user out of the files; to be called while nobody changes which files there are.

        Raises:
            LogUnavailableError: it could not be done to the end; what was forgotten stays forgotten.

        """
        # INVARIANT: the live file first, so that no file which is closed later brings anything back.
        done = await self._forget_in_live(user)
        for segment in [each for each in self._store.segments if each.kept]:
            done.add(await asyncio.to_thread(self._forget_in_closed, segment, user))
        await self._scrub()
        return done

    async def _forget_in_live(self, user: str) -> Erased:
        known: list[str] = []

        def forget() -> Erased:
            known.extend(self._store.persons.known(user))
            return self._store.forget(user)

        def rename(done: Erased) -> None:
            # SECURITY: what waits to be written would join the old pseudonym to the name again.
            self._commits.rename(done.pseudonyms.union(known), partial(self._store.persons.of, user))

        return await self._commits.between_commits(forget, rename)

    async def _scrub(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SCRUB_S
        while not await self._commits.between_commits(self._store.scrub):
            if loop.time() > deadline:
                raise LogUnavailableError("somebody reads the live file without end", retry_after_s=1)
            await asyncio.sleep(AGAIN_S)

    def _forget_in_closed(self, segment: Segment, user: str) -> Erased:
        try:
            return forget_in_closed(self._folder, segment, user)
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailableError(f"{segment.file} cannot be made anew: {error}") from error
