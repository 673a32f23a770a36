"""A stored record put together again: the line of an export, and the row that people see.

A line is the committed text with the personal members put back in their places, so it is made by cutting and joining
text. docs/decision-log.md tells its layout; `gateway.audit.line` takes it apart again.
"""

from binascii import hexlify
from functools import lru_cache
from typing import Any

import msgspec

from gateway.audit import canonical
from gateway.audit.leaf import DECISION, SALT_BYTES
from gateway.errors import VerificationError

STORED = """
    SELECT record.seq, CAST(committed AS BLOB), leaf, CAST(names AS BLOB), salts,
        CAST(top AS BLOB), CAST(pii.decision AS BLOB), CAST(pii.details AS BLOB)
    FROM record LEFT JOIN pii USING (seq)
"""
NO_TOP = b'"user_id":null,"replay":null'
_DECISION_MARK = b',"decision":{'
_DETAILS_END = b'},"event_id":'
_NOTHING_PERSONAL = b',"personal":{},"plugin_id":'
_MAX_CACHED_NAMES = 400
_FIRST = ("event_id", "seq", "timestamp", "user_id", "plugin_id", "event_type", "category", "details", "risk_score")
_UNREADABLE = (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError, RecursionError)

# seq, committed, leaf, names, salts, top, decision, details; the last five are None if nothing personal is kept
Stored = tuple[int, bytes, bytes, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]


class _Commitments(msgspec.Struct):
    personal: dict[str, str]


_commitments = msgspec.json.Decoder(_Commitments)


def weight(stored: Stored) -> int:
    """Tell how many bytes a stored record holds, roughly."""
    _, committed, _, names, _, top, decision, details = stored
    return len(committed) + len(names or b"") + len(top or b"") + len(decision or b"") + len(details or b"")


def spell_line(stored: Stored, more: bytes = b"") -> bytes:
    """Give the line of a stored record; `more` are further members behind it, each begun by a comma.

    Raises:
        VerificationError: what is stored is not what the log wrote.

    """
    try:
        return _spell_line(stored, more)
    except _UNREADABLE as error:
        raise _changed(stored[0]) from error


def _spell_line(stored: Stored, more: bytes) -> bytes:
    _, committed, leaf, names, salts, top, decision, details = stored
    if names is None or salts is None or top is None or decision is None or details is None:
        salt, top, details, decision = b"{}", NO_TOP, b"", _erased(committed)
    else:
        salt = _spell_salts(names, salts)
    first = committed.index(_DECISION_MARK) + len(_DECISION_MARK) if decision else 0
    # INVARIANT: no string holds this, for a quote in it is escaped, and nothing behind it ends an object before a name.
    last = committed.rindex(_DETAILS_END) if details else 0
    return b"".join(
        (
            committed[:first],
            decision,
            b"," if decision else b"",
            committed[first:last],
            b"," if details and committed[last - 1] != ord("{") else b"",
            details,
            committed[last:-1] if details else committed[first:-1],
            b",",
            top,
            b',"leaf":"',
            hexlify(leaf),
            b'","salt":',
            salt,
            more,
            b"}",
        )
    )


def _erased(committed: bytes) -> bytes:
    """Give the members of the decision whose values are not kept."""
    if committed.find(_NOTHING_PERSONAL, committed.rindex(_DETAILS_END)) >= 0:
        return b""
    names = [
        name.removeprefix(DECISION) for name in _commitments.decode(committed).personal if name.startswith(DECISION)
    ]
    return b",".join(b"%b:null" % canonical.encode(name) for name in names)


def _spell_salts(names: bytes, salts: bytes) -> bytes:
    template = _salt_template(names) if len(names) <= _MAX_CACHED_NAMES else _make_template(names)
    return template % tuple(hexlify(salts, b",", SALT_BYTES).split(b","))


def _make_template(names: bytes) -> bytes:
    spelt = [canonical.encode(name).replace(b"%", b"%%") for name in canonical.decode(b"[%b]" % names)]
    return b"{%b}" % b",".join(b'%b:"%%b"' % name for name in spelt)


_salt_template = lru_cache(256)(_make_template)


def row_of(stored: Stored) -> dict[str, Any]:
    """Give a stored record as people see it; what was erased is null or absent.

    Raises:
        VerificationError: what is stored is not what the log wrote.

    """
    try:
        row: dict[str, Any] = canonical.decode(_spell_line(stored, b""))
        return {name: row.pop(name) for name in _FIRST} | row
    except _UNREADABLE as error:
        raise _changed(stored[0]) from error


def _changed(seq: int) -> VerificationError:
    return VerificationError(f"record {seq} in audit.db was changed: it cannot be read")
