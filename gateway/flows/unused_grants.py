"""To find the grants that nobody needs: never used, or not lately, as the log tells it."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.audit.query import LogReader
from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.flows.parts import Parts

DEFAULT_DAYS = 90
_LAST = """
    SELECT rule, max(ts_us) FROM record
    WHERE effect = 'allow' AND rule IN (SELECT value FROM json_each(?)) GROUP BY rule
"""


async def unused_grants(parts: Parts, days: int) -> list[dict[str, Json]]:
    """Give the grants that allowed nothing in the last `days`, each with when it last did, null for never.

    Raises:
        LogUnavailableError: a file of the log cannot be read.
    """
    live = parts.registry.grants.live()
    last = await asyncio.to_thread(_last_uses, parts.home / "data", [grant.id for grant in live])
    since = parts.now() - timedelta(days=days)
    return [
        {**grant.as_json(), "last_used_at": None if (used := last.get(grant.id)) is None else timestamp(used)}
        for grant in live
        if (used := last.get(grant.id)) is None or used < since
    ]


def _last_uses(data: Path, ids: Collection[str]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    wanted = set(ids)
    with LogReader(data).whole() as whole:
        for part in whole.newest_first():
            if not wanted:
                break
            listed = "[" + ",".join(f'"{each}"' for each in wanted) + "]"
            for rule, ts_us in part.connection.execute(_LAST, (listed,)):
                found[rule] = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ts_us)
            wanted -= set(found)
    return found
