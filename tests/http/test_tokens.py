"""Tokens of an issuer: believed for what its keys signed, for this gateway, in time; and for nothing else."""

import base64
import hmac
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.errors import ConfigError
from gateway.http.tokens import read_keys

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

ISSUER, AUDIENCE = "https://login.example.org", "https://gate.example.org"
SETTINGS = f'[jwt]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "jwks.json"\n'
QUESTION = {"subject": "user:alice", "permission": "vault_read", "scope": "notes"}
PRIVATE: dict[str, Any] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}
OTHER = ed25519.Ed25519PrivateKey.generate()
MAKERS: dict[str, Any] = {"EdDSA": "OKPAlgorithm", "ES256": "ECAlgorithm", "RS256": "RSAAlgorithm"}


def public(algorithm: str, kid: str | None = None, private: Any = None, **more: object) -> dict[str, Any]:  # noqa: ANN401 (a key)
    """Give a key as a JWKS shows it."""
    maker = getattr(jwt.algorithms, MAKERS[algorithm])
    found: dict[str, Any] = json.loads(maker.to_jwk((private or PRIVATE[algorithm]).public_key()))
    return {**found, "kid": kid or algorithm, "alg": algorithm, **more}


def write_keys(folder: Path, *keys: dict[str, Any]) -> Path:
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": list(keys)}))
    return path


def token(algorithm: str = "EdDSA", *, private: Any = None, headers: Any = None, **claims: object) -> str:  # noqa: ANN401 (a key)
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 60, "scope": "evaluate openid", **claims}
    given = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(given, private or PRIVATE[algorithm], algorithm, {"kid": algorithm, **(headers or {})})


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home(settings=SETTINGS, opened=False)
    write_keys(home.folder, *(public(each) for each in MAKERS))
    return home.open()


def ask(home: "Home", text: str) -> httpx.Response:
    return home.stranger.ask("POST", "/v1/decisions", QUESTION, headers={"authorization": f"Bearer {text}"})


@pytest.mark.parametrize("algorithm", sorted(MAKERS))
def test_what_the_issuers_keys_signed_is_taken(home: "Home", algorithm: str) -> None:
    for _ in range(2):
        answer = ask(home, token(algorithm))
        assert answer.status_code == 200, answer.text
    decided = home.decided(subject="user:alice")
    assert [each["user"] for each in decided] == ["alice", "alice"]
    key = home.owner.post("/v1/keys", {"user": "alice", "scopes": ["evaluate"]}).json()["key"]
    assert ask(home, key).status_code == 200


def forged(header: dict[str, object], claims: dict[str, object], secret: bytes = b"") -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part(header)}.{part(claims)}.{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"


CLAIMS: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": 4_000_000_000, "scope": "evaluate"}
PEM = (
    PRIVATE["RS256"]
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
ATTACKS = {
    "expired": lambda: token(exp=int(time.time()) - 60),
    "not yet": lambda: token(nbf=int(time.time()) + 600),
    "another audience": lambda: token(aud="https://elsewhere.example"),
    "another issuer": lambda: token(iss="https://login.example.org.evil"),
    "no end": lambda: token(exp=None),
    "no audience": lambda: token(aud=None),
    "no issuer": lambda: token(iss=None),
    "no subject": lambda: token(sub=None),
    "a subject that is no id": lambda: token(sub="al ice"),
    "a subject that is no text": lambda: token(sub="7 OR 1=1"),
    "another's key": lambda: token(private=OTHER),
    "an unknown key": lambda: token(headers={"kid": "other"}),
    "no key named": lambda: token(headers={"kid": ""}),
    "another key of the issuer": lambda: token("EdDSA", headers={"kid": "ES256"}),
    "its own key": lambda: token(private=OTHER, headers={"jwk": public("EdDSA", private=OTHER)}),
    "a place of keys": lambda: token(private=OTHER, headers={"jku": "http://127.0.0.1:1/keys"}),
    "critical words": lambda: token(headers={"crit": ["exp"]}),
    "none": lambda: forged({"alg": "none", "kid": "EdDSA"}, CLAIMS),
    "none signed": lambda: forged({"alg": "none", "kid": "EdDSA"}, CLAIMS, b"x"),
    "no signature": lambda: forged({"alg": "EdDSA", "kid": "EdDSA"}, CLAIMS),
    "a public key as a secret": lambda: forged(
        {"alg": "HS256", "kid": "RS256"},
        CLAIMS,
        hmac.digest(PEM, b"whatever", "sha256"),
    ),
    "another alg for its key": lambda: forged({"alg": "RS256", "kid": "EdDSA"}, CLAIMS, b"x" * 256),
    "one byte more": lambda: token() + "A",
    "too long": lambda: token(more="x" * 9000),
    "no token": lambda: "a.b.c",
    "empty": lambda: "",
    "huge time": lambda: token(exp=10**30),
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_whatever_is_not_the_issuers_word_is_refused_and_not_told_why(home: "Home", attack: str) -> None:
    answer = ask(home, ATTACKS[attack]())
    assert (answer.status_code, answer.json()["detail"]) == (401, "this token is not taken, or is over")
    assert home.decided(subject="user:alice") == []


def test_a_token_gives_no_more_than_it_says_nor_than_the_settings_let_it(home: "Home") -> None:
    assert ask(home, token(scope="openid")).status_code == 403
    assert ask(home, token(scope=None)).status_code == 403
    assert ask(home, token(scope=["evaluate"])).status_code == 403  # words with blanks between, as the standard has it
    approving = token(scope="evaluate approve admin audit consent")
    home.register("puppet")
    headers = {"authorization": f"Bearer {approving}"}
    for path in ("/v1/plugins/puppet/approve", "/v1/keys"):
        body = {"reason": "x"} if "approve" in path else {"user": "alice", "scopes": ["admin"]}
        assert home.stranger.ask("POST", path, body, headers=headers).status_code == 403
    owner = ask(home, token(sub=str(home.parts.owner)))
    assert owner.status_code in {200, 403}
    answer = home.stranger.ask("GET", "/v1/keys", headers={"authorization": f"Bearer {token(sub=home.parts.owner)}"})
    assert answer.status_code == 403  # an owner's name is not the owner's socket


def test_a_key_that_is_gone_from_the_file_is_worth_nothing(home: "Home") -> None:
    held, other = token("EdDSA"), token("ES256")
    assert (ask(home, held).status_code, ask(home, other).status_code) == (200, 200)
    write_keys(home.folder, public("ES256"))
    assert (ask(home, held).status_code, ask(home, other).status_code) == (401, 200)
    (home.folder / "jwks.json").write_text("{")
    assert ask(home, other).status_code == 401
    write_keys(home.folder, public("ES256"), public("EdDSA"))
    assert (ask(home, held).status_code, ask(home, other).status_code) == (200, 200)
    (home.folder / "jwks.json").unlink()
    assert ask(home, held).status_code == 401


def test_a_token_ends_in_the_midst_of_a_session(home: "Home") -> None:
    text = token(exp=int(time.time()) - 29)
    assert ask(home, text).status_code == 200
    home.until(lambda: ask(home, text).status_code == 401)


def test_a_token_for_less_does_not_answer_in_the_session_of_one_for_more(home: "Home") -> None:
    """Else an agent's token could say yes to what its user's own client was asked."""
    person, renewed = (token(scope="evaluate execute", jti=each) for each in ("1", "2"))
    hello: dict[str, Any] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }

    def post(text: str, method: str, session: str | None = None, params: object = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {text}", "accept": "application/json, text/event-stream"}
        more = {} if session is None else {"mcp-session-id": session}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        return home.stranger.ask("POST", "/mcp", body, headers=headers | more)

    session = post(person, "initialize", params=hello).headers["mcp-session-id"]
    told = [post(each, "ping", session).status_code for each in (person, renewed, token(scope="execute"))]
    assert told == [200, 200, 404]


def test_without_an_issuer_no_token_is_taken(make_home: "MakeHome") -> None:
    home = make_home()
    assert ask(home, token()).status_code == 401
    assert home.stranger.get("/.well-known/oauth-protected-resource/mcp").status_code == 404
    assert "resource_metadata" not in home.stranger.get("/v1/plugins").headers["www-authenticate"]


def test_clients_without_a_token_are_told_where_there_are_some(home: "Home") -> None:
    refused = home.stranger.get("/v1/plugins")
    assert refused.status_code == 401
    where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
    assert where == "http://localhost/.well-known/oauth-protected-resource/mcp"
    told = home.stranger.get("/.well-known/oauth-protected-resource/mcp").json()
    assert told["authorization_servers"] == [ISSUER]
    assert told["resource"] == "http://localhost/mcp"
    assert told["scopes_supported"] == ["evaluate", "execute"]


PRIVATE_JWK = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(OTHER))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([public("EdDSA", kid="a"), public("ES256", kid="a")], "one id"),
        ([{**public("EdDSA"), "alg": "HS256"}], "none of EdDSA"),
        ([{**public("EdDSA"), "alg": None}], "none of EdDSA"),
        ([{**public("EdDSA"), "kid": None}], "a text is needed"),
        ([{**PRIVATE_JWK, "kid": "a", "alg": "EdDSA"}], "a private key"),
        ([{**public("EdDSA"), "use": "enc"}], "not for signatures"),
        ([public("RS256", private=rsa.generate_private_key(65537, 1024))], "bits"),  # noqa: S505 (to be refused)
        ([{"kty": "oct", "k": "AAAA", "kid": "a", "alg": "HS256"}], "none of"),
        ([{**public("EdDSA"), "x": "AA"}], "no keys that can be used"),
        (["x"], "no keys that can be used"),
    ],
)
def test_a_file_of_keys_that_cannot_be_meant_is_refused_at_the_start(
    tmp_path: Path, keys: list[Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_keys(write_keys(tmp_path, *keys))


def test_a_key_may_be_named_by_the_newer_word(tmp_path: Path) -> None:
    (found,) = read_keys(write_keys(tmp_path, {**public("EdDSA"), "alg": "Ed25519"})).values()
    assert found.algorithm_name == "EdDSA"
