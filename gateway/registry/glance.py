"""A glance at the registry of a home, beside whoever has it open."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId
from gateway.errors import UnavailableError
from gateway.policy.parse import GrantIds
from gateway.registry.grants import Grants

FILE = "registry.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What checking and comparing policies needs to know of a home."""

    grant_ids: GrantIds
    active: frozenset[PluginId]


def glance(data: Path) -> Glance | None:
    """Read what the registry in the folder `data` says now, None if there is none yet.

    Raises:
        UnavailableError: it cannot be read.
    """
    path = data / FILE
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            # INVARIANT: one transaction, so that what is read is one moment's.
            connection.execute("BEGIN")
            live, ended = Grants(connection).ids()
            rows = connection.execute("SELECT plugin_id FROM plugin WHERE state = ?", (State.ACTIVE.value,)).fetchall()
    except sqlite3.Error as error:
        raise UnavailableError(
            f"the registry `{path}` cannot be read: {error}", way_out="look at its owner and mode, and try again"
        ) from error
    return Glance(grant_ids=GrantIds(live=live, dead=ended), active=frozenset(PluginId(row[0]) for row in rows))
