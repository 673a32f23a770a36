"""One line of an exported file, checked on its own: laid out as the log lays it out, every value as committed.

SECURITY: the line is taken apart into the committed record, the personal values, their salts, the leaf, a proof and a
checkpoint, and each of these must stand at its place in the one spelling it has. So a line whose committed record is in
a signed tree holds nothing else: no member twice, none put in, none spelt so that another program reads it differently.
"""

import hashlib
from binascii import hexlify
from functools import lru_cache

import msgspec
from msgspec import Raw

from gateway.audit import canonical
from gateway.audit.decided import SAME_SUBJECT, SAME_USER
from gateway.audit.leaf import DECISION, DETAILS, FORMAT, SALT_BYTES

MAX_LINE_BYTES = 8 * 1024 * 1024
_HASH_BYTES = hashlib.sha256().digest_size
_NULL = b"null"
_ABSENT = Raw(b"")
_NOTHING = (b"", _NULL)
_DETAILS = b',"details":'
_EVENT_ID = b',"event_id":'
_ASKED = frozenset(DECISION + name for name in ("near_misses", "scope", "subject", "user"))
_PLACES = _ASKED | {"user_id", "replay"}
_MAX_CACHED_NAMES = 12
_SAME = {SAME_USER: DECISION + "user", SAME_SUBJECT: DECISION + "subject"}
_MISSPELT = "is not laid out as the log lays it out: a member put in, given twice or moved, or spelt otherwise"
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_sha256 = hashlib.sha256


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
    near_misses: Raw = _ABSENT
    scope: Raw = _ABSENT
    subject: Raw = _ABSENT
    user: Raw = _ABSENT


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
            shown = _Shown(row)
            self.leaf = _leaf(_cut(text, row, shown), row.leaf)
        except (LineError, *_UNREADABLE) as error:
            raise _explained(text, error) from error
        self.seq = row.seq
        self.event_type = row.event_type
        self.checkpoint = row.checkpoint
        self.rotations = row.rotations
        self.proof = row.proof
        self.bare = shown.bare
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

    __slots__ = ("asked", "decision", "details", "erased", "salted", "salts")

    def __init__(self, names: tuple[str, ...], salted: tuple[str, ...]) -> None:
        known = set(names)
        if not known.issuperset(salted):
            raise LineError("has a salt for a value that was never committed")
        for name in names:
            if name not in _PLACES and not name.startswith(DETAILS):
                raise LineError("commits to a value that has no place in it")
        self.asked = any(name in _ASKED for name in names)
        self.salted = [(name, name.encode() + b"\x1f") for name in names if name in salted]
        self.erased = [name for name in names if name not in salted]  # or the same as another
        self.decision = [(name, _spell(name[len(DECISION) :])) for name in names if name in _ASKED]
        self.details = [(name, _spell(name[len(DETAILS) :])) for name in names if name.startswith(DETAILS)]
        self.salts = b",".join(b'%b:"%%b"' % _spell(name).replace(b"%", b"%%") for name, _ in self.salted)


_names = lru_cache(1024)(_Names)


class _Shown:
    """The personal values that a line shows, each checked, as the log spells them at their places."""

    __slots__ = ("bare", "decision", "details", "salts")

    def __init__(self, row: _Row) -> None:
        if row.v != FORMAT:
            raise LineError(f"has a format that this version does not know, it knows {FORMAT}")
        personal, salts = tuple(row.personal), tuple(row.salt)
        names = _names(personal, salts) if len(personal) <= _MAX_CACHED_NAMES else _Names(personal, salts)
        values = _personal_values(row, names)
        opened = _open_salts(row.salt)
        at = 0
        for name, marked in names.salted:
            if _sha256(opened[at : at + SALT_BYTES] + marked + values[name]).hexdigest() != row.personal[name]:
                raise LineError(f"was changed: `{name}` is not the value that was committed")
            at += SALT_BYTES
        self.bare = False  # it lacks a value that was committed
        for name in names.erased:
            self.bare |= _lacks(row, name, values[name])
        # INVARIANT: the salts are spelt in the order of the commitments, whatever order they were found in.
        self.salts = names.salts % tuple(hexlify(opened, b",", SALT_BYTES).split(b",")) if opened else b""
        self.decision = b",".join([b"%b:%b" % (spelt, values[name] or _NULL) for name, spelt in names.decision])
        self.details = b""
        if names.details:
            members = [b"%b:%b" % (spelt, values[name]) for name, spelt in names.details if values[name]]
            self.details = b",".join(members)


def _open_salts(salts: dict[str, str]) -> bytes:
    """Give the salts one after the other; that each is spelt right is seen when the line is cut."""
    try:
        opened = bytes.fromhex("".join(salts.values()))
    except ValueError:
        opened = b""
    if len(opened) != SALT_BYTES * len(salts):
        raise LineError(f"has a salt that is not {SALT_BYTES} bytes in hex")
    return opened


def _personal_values(row: _Row, names: _Names) -> dict[str, bytes]:
    """Find the value of each name under `personal`; empty if it is absent."""
    values = {"user_id": bytes(row.user_id), "replay": bytes(row.replay)}
    for name, value in values.items():
        if value != _NULL and name not in row.personal:
            raise LineError(f"shows `{name}`, which was never committed")
    if names.asked:
        asked = _asked.decode(row.decision)
        values["decision.near_misses"] = bytes(asked.near_misses)
        values["decision.scope"] = bytes(asked.scope)
        values["decision.subject"] = bytes(asked.subject)
        values["decision.user"] = bytes(asked.user)
    if names.details:
        details = _members.decode(row.details)
        for name, _ in names.details:
            values[name] = bytes(details.get(name[len(DETAILS) :], _ABSENT))
    return values


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


def _cut(text: bytes, row: _Row, shown: _Shown) -> bytes:
    """Take out of a line what the log put into the committed record; give the latter.

    Raises:
        LineError: something does not stand at its place, or not in its one spelling.

    """
    decision, details = bytes(row.decision), bytes(row.details)
    begin = b'{"category":%b,"decision":' % bytes(row.category)
    asked = b"{%b," % shown.decision if shown.decision else b""
    first = len(begin)
    told = first + len(decision) + len(_DETAILS)
    last = told + len(details)
    end = b',"user_id":%b,"replay":%b,"leaf":"%b","salt":{%b}%b}' % (
        bytes(row.user_id),
        bytes(row.replay),
        row.leaf.encode(),
        shown.salts,
        _further(row),
    )
    in_place = (
        text.startswith(begin + asked)
        and text.startswith(_DETAILS + details + _EVENT_ID, told - len(_DETAILS))
        and text.endswith(end)
    )
    gone = 0
    if shown.details:
        # INVARIANT: no string holds a comma and an unescaped quote, so what ends like this ends with these members.
        gone = len(shown.details) + (details != b"{%b}" % shown.details)
        in_place = in_place and details.endswith(
            b"%b%b}" % (b"," if gone > len(shown.details) else b"{", shown.details)
        )
    if not in_place:
        raise LineError(_MISSPELT)
    kept = first + len(asked)
    opening = text[: first + 1] if asked else text[:first]
    return b"%b%b%b}" % (opening, text[kept : last - 1 - gone], text[last - 1 : -len(end)])


def _leaf(committed: bytes, told: str) -> bytes:
    leaf = _sha256(b"\x00" + committed).digest()
    if leaf.hex() != told:
        raise LineError("was changed: its content does not give its leaf")
    return leaf


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
