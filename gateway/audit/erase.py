"""Forgetting a person: their values leave the files of the log; what was committed, and so the tree, stays."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.naming import Kept, Mentions, what_goes, without
from gateway.audit.segment import FOLDER, Segment, connect_closed
from gateway.audit.whole import WholeLog

REWRITTEN = ("erasing.1.db", "erasing.2.db")  # in the folder of segments, while a closed file is made anew
# What has a percent sign may spell the name with it.
_NAMED = """
    SELECT seq, names, salts, top, decision, details FROM pii
    WHERE instr(top, ?1) OR instr(decision, ?1) OR instr(details, ?1)
        OR instr(top, '%') OR instr(decision, '%') OR instr(details, '%')
"""
_PSEUDONYM = "SELECT pseudonym FROM person WHERE user = ?"
_PUBLIC = "SELECT seq, committed FROM record WHERE instr(committed, ?) OR instr(committed, '%')"
# An export has a record more, which refers to the first, once it has ended.
_EXPORTED = "SELECT seq FROM record WHERE event_type = 'exported' AND ref IS NULL AND seq > ?"


@dataclass(slots=True)
class Erased:
    """What was, or would be, forgotten of a person."""

    pseudonyms: set[str] = field(default_factory=set)
    records: list[int] = field(default_factory=list)  # of the person: every value goes
    others: list[int] = field(default_factory=list)  # of others: the values that name the person go

    def add(self, other: "Erased") -> None:
        """Count in what was forgotten elsewhere."""
        self.pseudonyms |= other.pseudonyms
        self.records += other.records
        self.others += other.others

    @property
    def seqs(self) -> list[int]:
        """The records that lost something."""
        return sorted([*self.records, *self.others])


@dataclass(slots=True)
class Survey:
    """What the log has of a person, before it is forgotten."""

    found: Erased = field(default_factory=Erased)
    public: list[int] = field(default_factory=list)  # records whose committed part names the person: it stays
    exports: list[int] = field(default_factory=list)  # records of exports that held, or may have held, their values


def survey(whole: WholeLog, user: str) -> Survey:
    """Look up what the log has of a user.

    Raises:
        LogUnavailableError: a file of it is not there.
        sqlite3.Error: it cannot be read.

    """
    mentions, result = Mentions(user), Survey()
    for part in whole.parts:
        result.found.add(_survey(part.connection, mentions))
        named = part.connection.execute(_PUBLIC, (user,))
        result.public += [seq for seq, committed in named if mentions.in_text(committed)]
    seqs = result.found.seqs
    for part in whole.parts if seqs else ():
        result.exports += [seq for (seq,) in part.connection.execute(_EXPORTED, (seqs[0],))]
    return result


def acts(whole: WholeLog, user: str) -> bool:
    """Tell whether something that a user began has no outcome yet."""
    for (seq,) in whole.live.execute("SELECT seq FROM intent").fetchall():
        row = whole.holder(seq).connection.execute("SELECT top FROM pii WHERE seq = ?", (seq,)).fetchone()
        if row is not None and Mentions(user).in_text(row[0]):
            return True
    return False


def forget_in(connection: sqlite3.Connection, user: str) -> Erased:
    """Forget a user in the open file of a log, in one transaction; the bytes may still lie in its free pages."""
    mentions, done = Mentions(user), Erased()
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for seq, kept, gone in list(_named(connection, mentions)):
            left = without(kept, gone)
            connection.execute("DELETE FROM pii WHERE seq = ?", (seq,))
            if left is not None:
                connection.execute("INSERT INTO pii VALUES (?, ?, ?, ?, ?, ?)", (seq, *left))
            (done.records if left is None else done.others).append(seq)
        done.pseudonyms = {pseudonym for (pseudonym,) in connection.execute(_PSEUDONYM, (user,))}
        connection.execute("DELETE FROM person WHERE user = ?", (user,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return done


def forget_in_closed(folder: Path, segment: Segment, user: str) -> Erased:
    """Forget a user in the file of a segment: where it has something of the user, it is made anew in its place.

    Until the rename the old file stays as it was; behind it nothing of the user is in any file.

    Raises:
        LogUnavailableError: the file is not there.
        sqlite3.Error: it cannot be read, or a new one not be written.
        OSError: the new one cannot take its place.

    """
    first, second = (folder / FOLDER / name for name in REWRITTEN)
    with closing(connect_closed(folder, segment)) as source:
        found = _survey(source, Mentions(user))
        if not found.seqs and not found.pseudonyms:
            return found
        _copy(source, first)
    with closing(sqlite3.connect(first, isolation_level=None)) as copy:
        copy.execute("PRAGMA trusted_schema = OFF")
        done = forget_in(copy, user)
        _copy(copy, second)
    first.unlink()
    second.chmod(0o400)
    descriptor = os.open(second, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    second.replace(folder / FOLDER / segment.file)
    _sync(folder / FOLDER)
    return done


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Write a copy that holds what the tables hold, and nothing that was deleted from them."""
    target.unlink(missing_ok=True)
    # SECURITY: made private before SQLite opens it.
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    source.execute("PRAGMA query_only = OFF")  # WHY: it forbids writing the copy, too
    source.execute("VACUUM INTO ?", (str(target),))


def _survey(connection: sqlite3.Connection, mentions: Mentions) -> Erased:
    found = Erased()
    for seq, kept, gone in _named(connection, mentions):
        (found.records if without(kept, gone) is None else found.others).append(seq)
    found.pseudonyms = {pseudonym for (pseudonym,) in connection.execute(_PSEUDONYM, (mentions.user,))}
    return found


def _named(connection: sqlite3.Connection, mentions: Mentions) -> Iterator[tuple[int, Kept, frozenset[str]]]:
    for seq, *columns in connection.execute(_NAMED, (mentions.user,)):
        names, salts, *groups = columns
        kept: Kept = (names, salts, groups[0], groups[1], groups[2])
        gone = what_goes(kept, mentions)
        if gone:
            yield seq, kept, gone


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
