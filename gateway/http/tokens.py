"""Tokens of an issuer (JWT, RFC 7519): whose they are, what they are for, and until when.

A token is believed if a key of the issuer's file signed it, by the algorithm that the file gives that key, for this
gateway's audience. The file (JWKS, RFC 7517) is the operator's to keep up to date: a key that is gone from it is worth
nothing from then on, and so is every key of a file that cannot be read.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt

from gateway.config import JwtSettings
from gateway.domain.names import UserId, parse_user_id
from gateway.errors import ConfigError, MalformedError
from gateway.registry.keys import KEY_SCOPES

ALGORITHMS = ("EdDSA", "ES256", "RS256")
KEY_ID = "jwt"  # in records and as `key:jwt` in rules, where a registered key's id stands
_LEAST_RSA_BITS = 2048
_MOST_BYTES = 8192
_MOST_KEPT = 4096
_LEEWAY = timedelta(seconds=30)
_NEEDED = ("exp", "aud", "iss", "sub")
_log = logging.getLogger("hearthgate.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token says that counts."""

    user_id: UserId
    scopes: frozenset[str]
    until: datetime


class Tokens:
    """The tokens of one issuer."""

    def __init__(self, settings: JwtSettings, home: Path) -> None:
        """Read the issuer's keys.

        Raises:
            ConfigError: there is no such file, or a key of it cannot be used.
        """
        self._settings = settings
        self._most = frozenset(settings.scopes)
        self._path = home / settings.jwks
        self._seen = self._stamp()
        self._keys = read_keys(self._path)
        self._kept: dict[bytes, Token] = {}

    def holder(self, text: str, *, at: datetime) -> Token | None:
        """Give what a token says, None if it is none, or is over."""
        self._look_again()
        if len(text) > _MOST_BYTES:
            return None
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        token = self._kept.get(digest)
        if token is None:
            token = self._verified(text)
            if token is None:
                return None
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[digest] = token
        return token if at < token.until else None

    def _verified(self, text: str) -> Token | None:
        try:
            header = jwt.get_unverified_header(text)
            key = self._keys.get(str(header.get("kid")))
            # SECURITY: what the token says of its own algorithm, key or place of keys decides nothing.
            if key is None or header.get("alg") != key.algorithm_name or "crit" in header:
                return None
            claims = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY,
                options={"require": [*_NEEDED], "enforce_minimum_key_length": True},
            )
            user_id = parse_user_id(_text(claims.get(self._settings.user_claim)))
            until = datetime.fromtimestamp(int(claims["exp"]), UTC) + _LEEWAY
        except (jwt.PyJWTError, MalformedError, ValueError, TypeError, OverflowError, OSError, RecursionError):
            return None
        return Token(user_id=user_id, scopes=_scopes(claims.get("scope")) & self._most, until=until)

    def _look_again(self) -> None:
        """Take over the issuer's keys where the file was changed."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen, self._keys = stamp, {}
        self._kept.clear()
        try:
            self._keys = read_keys(self._path)
        except ConfigError as error:
            # SECURITY: no token is believed then, for the key that is gone may be why it was changed.
            _log.error("no token is taken: %s", error)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


def read_keys(path: Path) -> Mapping[str, jwt.PyJWK]:
    """Read a JWKS file: its keys by their ids.

    Raises:
        ConfigError: it cannot be read, or holds a key that has no id or algorithm, or not one of ours.
    """
    try:
        found = json.loads(path.read_bytes())
        listed = found["keys"]
        keys = [_key(each) for each in listed]
    except OSError as error:
        raise ConfigError(f"`{path}`: {error.strerror}", way_out="[jwt] jwks names the issuer's keys") from None
    except (ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError(f"`{path}` holds no keys that can be used: {str(error)[:200]}") from None
    if len({kid for kid, _ in keys}) < len(keys):
        raise ConfigError(f"`{path}`: two keys have one id")
    return dict(keys)


def _key(jwk: Any) -> tuple[str, jwt.PyJWK]:  # noqa: ANN401 (JSON)
    if not isinstance(jwk, dict):
        raise TypeError("a key is a JSON object")
    kid, algorithm = _text(jwk.get("kid")), "EdDSA" if jwk.get("alg") == "Ed25519" else jwk.get("alg")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"key `{kid[:40]}`: its `alg` is none of {', '.join(ALGORITHMS)}")
    if {"d", "p", "q", "k"} & set(jwk):
        raise ValueError(f"key `{kid[:40]}`: a private key: keep the public part alone here")
    if jwk.get("use", "sig") != "sig":
        raise ValueError(f"key `{kid[:40]}`: is not for signatures")
    key = jwt.PyJWK.from_dict(jwk, algorithm)
    if jwk.get("kty") == "OKP" and jwk.get("crv") != "Ed25519":
        raise ValueError(f"key `{kid[:40]}`: of curves like that, Ed25519 alone")
    if getattr(key.key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and jwk.get("kty") == "RSA":
        raise ValueError(f"key `{kid[:40]}`: fewer than {_LEAST_RSA_BITS} bits")
    return kid, key


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is needed")
    return value


def _scopes(claim: object) -> frozenset[str]:
    """Give the scopes of ours among those of a token (RFC 8693, 4.2: words with blanks between)."""
    words = claim.split() if isinstance(claim, str) else ()
    return KEY_SCOPES.intersection(words)
