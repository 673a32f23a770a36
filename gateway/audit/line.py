"""One line of an exported file, checked on its own: laid out as the log lays it out, every value as committed.

SECURITY: the line is taken apart into the committed record, the personal values, their salts, the leaf, a proof and a
checkpoint, and each of these must stand at its place in the one spelling it has. So a line whose committed record is in
a signed tree holds nothing else: no member twice, none put in, none spelt so that another program reads it differently.
"""

import hashlib
from binascii import hexlify
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter

import msgspec
from msgspec import Raw

from gateway.audit import canonical
from gateway.audit.decided import SAME_SUBJECT, SAME_USER
from gateway.audit.leaf import DECISION, DETAILS, FORMAT, SALT_BYTES

MAX_LINE_BYTES = 8 * 1024 * 1024
_HASH_BYTES = hashlib.sha256().digest_size
_NULL = b"null"
_ABSENT, _ABSENT_OR_NULL = Raw(b""), Raw(b"null")
_NOTHING = (b"", _NULL)
_EVENT_ID = b',"event_id":'
_ASKED = frozenset(DECISION + name for name in ("near_misses", "scope", "subject", "user"))
_ALWAYS_SHOWN = ("user_id", "replay")
_PLACES = _ASKED | set(_ALWAYS_SHOWN)
_MAX_CACHED_NAMES = 12
_SAME = {SAME_USER: DECISION + "user", SAME_SUBJECT: DECISION + "subject"}
_MISSPELT = "is not laid out as the log lays it out: a member put in, given twice or moved, or spelt otherwise"
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_sha256 = hashlib.sha256
_leaf_begun = _sha256(b"\x00")


class LineError(Exception):
    """What is wrong with a line, as a person reads it."""


class _Row(msgspec.Struct, gc=False):
    category: Raw
    decision: Raw
    details: Raw
    event_type: str
    personal: dict[str, str]
    seq: int
    v: int
    user_id: Raw
    replay: Raw
    leaf: str
    salt: dict[str, str]
    proof: Raw = _ABSENT
    checkpoint: str | None = None
    rotations: list[str] = []


class _Asked(msgspec.Struct, gc=False):
    near_misses: Raw = _ABSENT_OR_NULL
    scope: Raw = _ABSENT_OR_NULL
    subject: Raw = _ABSENT_OR_NULL
    user: Raw = _ABSENT_OR_NULL


_row = msgspec.json.Decoder(_Row)
_asked = msgspec.json.Decoder(_Asked)
_members = msgspec.json.Decoder(dict[str, Raw])
_hashes = msgspec.json.Decoder(list[str])


def _spell(name: str) -> bytes:
    return canonical.encode(name)


class Line:
    """A line that is true to itself: its values are the committed ones, its leaf is theirs."""

    __slots__ = ("bare", "checkpoint", "details", "event_type", "leaf", "proof", "rotations", "seq")

    def __init__(self, text: bytes) -> None:
        """Read and check a line.

        Raises:
            LineError: it is not what the log wrote.

        """
        try:
            row = _row.decode(text)
            self.leaf, self.bare = _check(text, row)  # bare: it lacks a value that was committed
        except (LineError, *_UNREADABLE) as error:
            raise _explained(text, error) from error
        self.seq = row.seq
        self.event_type = row.event_type
        self.checkpoint = row.checkpoint
        self.rotations = row.rotations
        self.proof = row.proof
        self.details = row.details


def _explained(text: bytes, error: Exception) -> LineError:
    """Give what a person should be told of a line that was refused for `error`."""
    try:
        spelt = canonical.encode_in_order(canonical.decode_exact(text))
    except _UNREADABLE as unreadable:
        return LineError(f"cannot be read as JSON: {unreadable}")
    if spelt != text:
        return LineError(_MISSPELT)
    return error if isinstance(error, LineError) else LineError(f"is not a record: {error}")


class _Names:
    """What is the same for all lines whose personal values and salts have the same names."""

    __slots__ = ("asked", "details", "erased", "opening", "salted", "salts")

    def __init__(self, names: tuple[str, ...], salted: tuple[str, ...]) -> None:
        known = set(names)
        if not known.issuperset(salted):
            raise LineError("has a salt for a value that was never committed")
        for name in names:
            if name not in _PLACES and not name.startswith(DETAILS):
                raise LineError("commits to a value that has no place in it")
        asked = [name for name in names if name in _ASKED]
        self.asked = itemgetter(*asked) if asked else None
        self.opening = b"{" + b"".join(b"%b:%%b," % _spell(name[len(DECISION) :]) for name in asked)
        self.salted = [(name, name.encode() + b"\x1f") for name in names if name in salted]
        self.erased = [name for name in names if name not in salted]  # or the same as another
        self.details = [(name, _spell(name[len(DETAILS) :])) for name in names if name.startswith(DETAILS)]
        self.salts = ",".join(_spell(name).decode().replace("%", "%%") + ':"%s"' for name, _ in self.salted)


_names = lru_cache(1024)(_Names)


def _check(text: bytes, row: _Row) -> tuple[bytes, bool]:
    """Check a line's values and its layout; give its leaf, and whether it lacks a value that was committed.

    Raises:
        LineError: a value is not the committed one, or something does not stand at its place in its one spelling.

    """
    # WHY: one flow without further steps for what most lines have: an auditor waits for millions of them.
    if row.v != FORMAT:
        raise LineError(f"has a format that this version does not know, it knows {FORMAT}")
    personal, salted = tuple(row.personal), tuple(row.salt)
    names = _names(personal, salted) if len(personal) <= _MAX_CACHED_NAMES else _Names(personal, salted)
    user_id, replay, decision = bytes(row.user_id), bytes(row.replay), bytes(row.decision)
    begin = b'{"category":%b,"decision":' % bytes(row.category)
    values, opening = {"user_id": user_id, "replay": replay}, len(begin)
    middle = opening + len(decision)
    if names.asked is not None:
        asked = _asked.decode(decision)
        values["decision.near_misses"] = bytes(asked.near_misses)
        values["decision.scope"] = bytes(asked.scope)
        values["decision.subject"] = bytes(asked.subject)
        values["decision.user"] = bytes(asked.user)
        begin += names.opening % names.asked(values)
        opening += 1
    shown = _details_shown(row, names, values) if names.details else b""
    bare = _check_values(row, names, values)
    details = b',"details":%b,"event_id":' % bytes(row.details)
    end = b',"user_id":%b,"replay":%b,"leaf":"%b","salt":{%b}%b}' % (
        user_id,
        replay,
        row.leaf.encode(),
        (names.salts % tuple(row.salt.values())).encode(),
        _further(row) if row.proof or row.checkpoint is not None or row.rotations else b"",
    )
    if not (text.startswith(begin) and text.startswith(details, middle) and text.endswith(end)):
        raise LineError(_MISSPELT)
    hashed = _leaf_begun.copy()
    hashed.update(text[:opening])
    if shown:
        last = middle + len(details) - len(_EVENT_ID)
        hashed.update(text[len(begin) : last - 1 - _length(bytes(row.details), shown)])
        hashed.update(text[last - 1 : -len(end)])
    else:
        hashed.update(text[len(begin) : -len(end)])
    hashed.update(b"}")
    leaf = hashed.digest()
    if leaf.hex() != row.leaf:
        raise LineError("was changed: its content does not give its leaf")
    return leaf, bare


def _check_values(row: _Row, names: _Names, values: Mapping[str, bytes]) -> bool:
    """Check that personal values are the committed ones; tell whether one of them is lacking."""
    personal = row.personal
    for name in _ALWAYS_SHOWN:
        if name not in personal and values[name] != _NULL:
            raise LineError(f"shows `{name}`, which was never committed")
    opened = _open_salts(row.salt)
    at = 0
    for name, marked in names.salted:
        if _sha256(opened[at : at + SALT_BYTES] + marked + values[name]).hexdigest() != personal[name]:
            raise LineError(f"was changed: `{name}` is not the value that was committed")
        at += SALT_BYTES
    bare = False
    for name in names.erased:
        bare |= _lacks(row, name, values[name])
    return bare


def _open_salts(salts: dict[str, str]) -> bytes:
    """Give the salts one after the other, each of them spelt right."""
    told = salts.values()
    try:
        opened = bytes.fromhex("".join(told))
    except ValueError:
        opened = b""
    if len(opened) != SALT_BYTES * len(salts) or opened.hex(",", SALT_BYTES) != ",".join(told):
        raise LineError(f"has a salt that is not {SALT_BYTES} bytes in hex")
    return opened


def _details_shown(row: _Row, names: _Names, values: dict[str, bytes]) -> bytes:
    """Find the personal values among the details; give them as the log spells them there, at the end."""
    found = _members.decode(row.details)
    for name, _ in names.details:
        values[name] = bytes(found.get(name[len(DETAILS) :], _ABSENT))
    return b",".join([b"%b:%b" % (spelt, values[name]) for name, spelt in names.details if values[name]])


def _length(details: bytes, shown: bytes) -> int:
    """Tell how much of the details is the personal members at their end, with the comma before them.

    Raises:
        LineError: they do not stand there.

    """
    if details == b"{%b}" % shown:
        return len(shown)
    # INVARIANT: no string holds a comma and an unescaped quote, so what ends like this ends with these members.
    if not details.endswith(b",%b}" % shown):
        raise LineError(_MISSPELT)
    return len(shown) + 1


def _lacks(row: _Row, name: str, value: bytes) -> bool:
    """Tell whether a value that has no salt is missing, or else follows from `user_id` as it must.

    Raises:
        LineError: it does neither.

    """
    committed = row.personal[name]
    if committed not in _SAME:
        if value not in _NOTHING:
            raise LineError(f"shows `{name}`, which was erased or left out, so nothing proves it")
        return True
    user_id = bytes(row.user_id)
    expected = user_id if committed == SAME_USER or user_id == _NULL else b'"user:' + user_id[1:]
    if _SAME[committed] != name or value != expected:
        raise LineError(f"was changed: `{name}` is not what `user_id` makes it")
    return False


def _further(row: _Row) -> bytes:
    further = b',"proof":%b' % bytes(row.proof) if row.proof else b""
    if row.checkpoint is not None:
        further += b',"checkpoint":%b' % canonical.encode(row.checkpoint)
    if row.rotations:
        further += b',"rotations":%b' % canonical.encode(row.rotations)
    return further


def parse_hashes(value: Raw) -> list[bytes]:
    """Read a proof.

    Raises:
        LineError: it is not a list of hashes, or not in its one spelling.

    """
    try:
        texts = _hashes.decode(value)
        hashes = [bytes.fromhex(text) for text in texts]
    except (msgspec.MsgspecError, ValueError) as error:
        raise LineError("has no proof that can be read") from error
    spelt = b"[%b]" % b",".join(b'"%b"' % hexlify(each) for each in hashes)
    if spelt != bytes(value) or any(len(each) != _HASH_BYTES for each in hashes):
        raise LineError("has no proof that can be read")
    return hashes
