"""Sums and figures of the traffic log: its rows are read twice, once for what moved and once for how long it took."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.domain.request import Json

GROUPS = 50  # the plugins, hosts and so on that are told, the ones that moved most
_BY = ("plugin", "host", "user", "op", "outcome")
_SUMS = "sum(transfers) AS transfers, sum(bytes_out) AS bytes_out, sum(bytes_in) AS bytes_in, sum(not_returned)"
# WHY: grouped by what differs most, for that is what the sorting compares first.
_ALIKE = """
    WITH alike AS MATERIALIZED (
        SELECT plugin, host, user, op, outcome, count(*) AS transfers, sum(bytes_out) AS bytes_out,
            sum(bytes_in) AS bytes_in, count(*) FILTER (WHERE outcome <> 'returned') AS not_returned,
            min(ended_us) AS first_us, max(ended_us) AS last_us
        FROM transfer WHERE {where} GROUP BY user, host, plugin, op, outcome
    )
"""
_TOTALS = f"SELECT NULL AS by, NULL AS value, {_SUMS}, min(first_us), max(last_us) FROM alike"  # noqa: S608 # names of this file
_GROUPED = f"""
    SELECT * FROM (
        SELECT '{{by}}', {{by}} AS value, {_SUMS}, NULL, NULL FROM alike WHERE {{by}} IS NOT NULL
        GROUP BY value ORDER BY sum(bytes_out) + sum(bytes_in) DESC, value LIMIT {GROUPS}
    )
"""  # noqa: S608 # names of this file
_SUMMARY = " UNION ALL ".join([_ALIKE + _TOTALS, *(_GROUPED.format(by=by) for by in _BY)])
_DURATIONS = """
    SELECT duration_us FROM (
        SELECT duration_us, row_number() OVER (ORDER BY duration_us) - 1 AS place FROM transfer WHERE {where}
    ) WHERE place IN ({places}) ORDER BY duration_us
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What transfers moved; moments are microseconds since 1970, None where nothing moved."""

    transfers: int
    bytes_out: int
    bytes_in: int
    not_returned: int
    first_us: int | None
    last_us: int | None
    durations_us: dict[str, int | None]  # `p50`, `p95` and `max`
    groups: dict[str, list[Json]]  # `by_plugin`, `by_host` ...: who moved most


def summarize(connection: sqlite3.Connection, where: str, values: list[str | int]) -> Summary:
    """Sum up the transfers of which `where` holds, as they are at one moment.

    Raises:
        sqlite3.Error: they cannot be read, or not in the time there is.
    """
    connection.execute("BEGIN")
    groups: dict[str, list[Json]] = {f"by_{by}": [] for by in _BY}
    totals: tuple[int | None, ...] = ()
    for by, value, *sums, first_us, last_us in connection.execute(_SUMMARY.format(where=where), values):
        if by is None:
            totals = (*sums, first_us, last_us)
        else:
            names = (by, "transfers", "bytes_out", "bytes_in", "not_returned")
            groups[f"by_{by}"].append(dict(zip(names, (value, *sums), strict=True)))
    transfers, bytes_out, bytes_in, not_returned, first_us, last_us = totals
    return Summary(
        transfers=transfers or 0,
        bytes_out=bytes_out or 0,
        bytes_in=bytes_in or 0,
        not_returned=not_returned or 0,
        first_us=first_us,
        last_us=last_us,
        durations_us=_durations(connection, where, values, transfers or 0),
        groups=groups,
    )


def _durations(
    connection: sqlite3.Connection, where: str, values: list[str | int], count: int
) -> dict[str, int | None]:
    places = {"p50": (count - 1) // 2, "p95": (count * 95 - 1) // 100, "max": count - 1} if count else {}
    wanted = sorted(set(places.values()))
    sql = _DURATIONS.format(where=where, places=",".join(map(str, wanted)))
    found = dict(zip(wanted, _only(connection.execute(sql, values)), strict=True))
    return {name: found.get(places.get(name, -1)) for name in ("p50", "p95", "max")}


def _only(rows: sqlite3.Cursor) -> Iterator[int]:
    return (row[0] for row in rows)
