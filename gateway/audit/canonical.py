"""Canonical JSON: one value, one spelling, so that a hash of the bytes is a hash of the value.

The spelling is RFC 8785 with two differences, told in docs/decision-log.md: members are sorted by code
point, and an integer is written in full whatever its size.
"""

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gateway.domain.request import Json

MAX_DEPTH = 64
MAX_VALUE_BYTES = 64 * 1024
TOO_DEEP = "(nested too deep to be recorded)"
TOO_LONG = "(a number too long to be recorded)"
_MAX_SAFE_INTEGER = 2**53
_MAX_INTEGER_BITS = 4096
_MAX_PLAIN_EXPONENT = 21  # ECMAScript writes numbers below 1e21 and from 1e-6 without an exponent
_MIN_PLAIN_EXPONENT = -6
_MAX_CACHED_TEXT = 200  # characters; what is longer is spelt anew each time, so that the cache stays small

_encoder = msgspec.json.Encoder(order="deterministic")
_plain_encoder = msgspec.json.Encoder()


def _keep_token(token: str) -> msgspec.Raw:
    return msgspec.Raw(token.encode())


_decoder = msgspec.json.Decoder()
_token_decoder = msgspec.json.Decoder(float_hook=_keep_token)
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)


def encode(value: Any) -> bytes:  # noqa: ANN401 # JSON with raw tokens inside
    """Give the canonical bytes of what `tidy` made or `decode_exact` read."""
    return _encoder.encode(value)


def encode_in_order(value: Any) -> bytes:  # noqa: ANN401 # JSON with raw tokens inside
    """Give compact JSON with the members in the order they have."""
    return _plain_encoder.encode(value)


def decode(text: bytes | str) -> Any:  # noqa: ANN401 # whatever JSON holds
    """Read JSON."""
    return _decoder.decode(text)


def decode_exact(text: bytes | str) -> Any:  # noqa: ANN401 # whatever JSON holds
    """Read JSON keeping every fraction as it is spelt, so that encoding gives the same bytes."""
    return _token_decoder.decode(text)


def spell(value: object) -> bytes:
    """Give the canonical bytes of anything, made fit by `tidy` where that is needed; never raises."""
    try:
        spelt = _encoder.encode(value)
        # WHY: what reads back as the very same value has no other spelling, unless it is a fraction, which reads
        # back as a token. That spares nearly every value the walk.
        if spelt.count(b"{") + spelt.count(b"[") < MAX_DEPTH and _token_decoder.decode(spelt) == value:
            return spelt
    except _UNFIT:
        pass
    return _encoder.encode(tidy(value))


def clip(spelt: bytes) -> bytes:
    """Give `spelt`, or its digest if it is too large to be recorded."""
    return spelt if len(spelt) <= MAX_VALUE_BYTES else encode(digest(spelt))


def digest(spelt: bytes) -> dict[str, Json]:
    """Give what is recorded in the place of a value that is too large."""
    return {"omitted_bytes": len(spelt), "omitted_sha256": hashlib.sha256(spelt).hexdigest()}


def spell_text(text: str) -> str:
    """Give the canonical spelling of a text, made fit by `tidy_text` where that is needed."""
    return _spell_cached(text) if len(text) <= _MAX_CACHED_TEXT else _spell_text(text)


def _spell_text(text: str) -> str:
    return encode_text(text).decode()


def encode_text(text: str) -> bytes:
    """Give the canonical bytes of a text, made fit by `tidy_text` where that is needed."""
    try:
        return _encoder.encode(text)
    except UnicodeEncodeError:
        return _encoder.encode(tidy_text(text))


_spell_cached = lru_cache(16_384)(_spell_text)


def tidy(value: object, depth: int = 0) -> Any:  # noqa: ANN401 # JSON with raw tokens inside
    """Make anything something that has a canonical spelling; never raises for a value from outside.

    What JSON cannot say becomes text: NaN and the infinities, a lone surrogate (as U+FFFD), a member
    name that is no text, a value nested too deep.
    """
    kind = type(value)
    if kind is str:
        return tidy_text(value)  # type: ignore[arg-type] # it is one: mypy does not follow `kind`
    if value is None or kind is bool:
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _MAX_INTEGER_BITS else TOO_LONG
    return _tidy_float(value) if isinstance(value, float) else _tidy_container(value, depth)


def _tidy_container(value: object, depth: int) -> object:
    if isinstance(value, str):
        return tidy_text(str.__str__(value))
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict | Mapping):
        return {tidy_text(_name(key)): tidy(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [tidy(item, depth + 1) for item in value]
    return tidy_text(f"{value}")


def tidy_text(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot carry."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tidy_json(value: Json) -> Json:
    """Give `value` as a reader of the log sees it again."""
    result: Json = decode(encode(tidy(value)))
    return result


def _name(key: object) -> str:
    return key if isinstance(key, str) else f"{key}"


def _tidy_float(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < _MAX_SAFE_INTEGER:
        return int(value)
    return msgspec.Raw(spell_float(value).encode())


def spell_float(value: float) -> str:
    """Spell a finite number as ECMAScript does (RFC 8785 section 3.2.2.3)."""
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent_text or 0)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= _MAX_PLAIN_EXPONENT:
        return digits + "0" * (point - count)
    if 0 < point <= _MAX_PLAIN_EXPONENT:
        return f"{digits[:point]}.{digits[point:]}"
    if _MIN_PLAIN_EXPONENT < point <= 0:
        return "0." + "0" * -point + digits
    exponent = point - 1
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{tail}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
