"""The words of the house: names, scopes, levels, states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.lifecycle import TRANSITIONS, State, Verb, after, legal_verbs
from gateway.domain.names import RESERVED_PLUGIN_IDS, parse_plugin_id, parse_user_id
from gateway.domain.permission import FAMILIES, PERMISSIONS, Kind, Level, parse_permission
from gateway.domain.scope import canonical_pattern, canonical_scope, covers, covers_pattern
from gateway.domain.shape import fits
from gateway.errors import MalformedError

KINDS = [*FAMILIES, Kind.GATEWAY]
SEGMENTS = st.lists(st.sampled_from(["a", "b", "a.b", "x-1"]), min_size=1, max_size=3).map("/".join)
PATTERNS = st.one_of(st.just("*"), SEGMENTS, SEGMENTS.map(lambda text: text + "/*"))


def test_there_are_27_permissions() -> None:
    assert len(PERMISSIONS) == 27
    assert {"vault_read", "file_execute", "system_execute", "plugin_execute", "user_admin"} <= set(PERMISSIONS)
    assert not {"vault_execute", "gateway_read", "core_execute"} & set(PERMISSIONS)


@pytest.mark.parametrize(
    "text", ["vault_execute", "VAULT_READ", "vault-read", "vault_read ", "", "*", "vault", "gateway_read"]
)
def test_what_is_no_permission_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_permission(text)


def test_levels_include_the_ones_below() -> None:
    assert Level.READ < Level.WRITE < Level.EXECUTE < Level.ADMIN


@pytest.mark.parametrize("text", ["ab", "notes", "a-b-c", "a1", "x" * 64])
def test_plugin_ids(text: str) -> None:
    assert parse_plugin_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "A",
        "Notes",
        "1a",
        "-a",
        "a-",
        "a--b",
        "a_b",
        "a.b",
        "a/b",
        "x" * 65,
        "\uff41b",
        "ab\n",
        *sorted(RESERVED_PLUGIN_IDS),
    ],
)
def test_what_is_no_plugin_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_plugin_id(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "a:b", "é", ".a", "-a", "a\n", "x" * 129, "role:owner", "a,b", "a%2Cb"]
)
def test_what_is_no_user_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_user_id(text)


@pytest.mark.parametrize("text", ["alice", "A.B_c@example.org", "0", "a+b-c"])
def test_user_ids(text: str) -> None:
    assert parse_user_id(text) == text


@given(st.sampled_from(KINDS), st.text(max_size=40))
def test_a_canonical_scope_is_its_own_canonical_scope(kind: str, text: str) -> None:
    try:
        scope = canonical_scope(kind, text)
    except MalformedError:
        return
    assert canonical_scope(kind, scope) == scope
    assert "*" not in scope
    assert ".." not in scope.split("/")
    assert canonical_pattern(kind, scope) == scope


@given(PATTERNS, PATTERNS, SEGMENTS)
def test_a_pattern_that_covers_a_pattern_covers_what_that_covers(wide: str, narrow: str, scope: str) -> None:
    if covers_pattern(wide, narrow) and covers(narrow, scope):
        assert covers(wide, scope)


@pytest.mark.parametrize(
    ("pattern", "scope", "covered"),
    [
        ("a/*", "a", True),
        ("a/*", "a/b/c", True),
        ("a/*", "ab", False),
        ("a", "a/b", False),
        ("*.example.com", "x.example.com", True),
        ("*.example.com", "x.y.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("*.example.com", "x.example.com:8443", False),
        ("example.com", "example.com:8443", False),
        ("*", "anything", True),
        ("/*", "/etc/passwd", True),
        ("/*", "/", True),
    ],
)
def test_what_a_pattern_covers(pattern: str, scope: str, *, covered: bool) -> None:
    assert covers(pattern, scope) is covered


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("EXAMPLE.com.", "example.com"),
        ("example.com:80", "example.com"),
        ("example.com:443", "example.com"),
        ("example.com:8443", "example.com:8443"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[0:0:0:0:0:0:0:1]:8080", "[::1]:8080"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_host_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical_scope(Kind.NETWORK, text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "127.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1.",
        "1.2.3.4.5",
        "[::1%eth0]",
        "::1",
        "[::1",
        "a b",
        "a..b",
        "-a.example",
        "example.com:0",
        "example.com:65536",
        "example.com:080",
        "example.com:x",
        "a@b",
        "a/b",
        "http://a",
        "*",
        "",
        ".",
        "x" * 300,
    ],
)
def test_a_host_in_disguise_is_refused(text: str) -> None:
    if text == "127.0.0.1.":
        assert canonical_scope(Kind.NETWORK, text) == "127.0.0.1"
        return
    with pytest.raises(MalformedError):
        canonical_scope(Kind.NETWORK, text)


def test_no_state_leads_back_from_revoked() -> None:
    reachable = {State.REVOKED}
    while more := {after(state, verb) for state in reachable for verb in Verb} - {None} - reachable:
        reachable |= {each for each in more if each is not None}
    assert reachable == {State.REVOKED, State.UNINSTALLED}


def test_every_state_has_its_verbs_and_execute_is_for_the_active() -> None:
    assert set(TRANSITIONS) == set(State)
    assert [state for state in State if "execute" in legal_verbs(state)] == [State.ACTIVE]
    assert all(Verb.REVOKE in TRANSITIONS[state] for state in set(State) - {State.REVOKED, State.UNINSTALLED})


@pytest.mark.parametrize(
    ("value", "word", "right"),
    [
        (1, "integer", True),
        (1, "number", True),
        (1.5, "number", True),
        (1.5, "integer", False),
        (True, "integer", False),
        (True, "number", False),
        (True, "boolean", True),
        ("1", "number", False),
        (None, "null", True),
        (None, "any", True),
        (None, "string", False),
        ([], "array", True),
        ({}, "object", True),
        ([], "object", False),
    ],
)
def test_a_value_is_of_its_type_alone(value: object, word: str, *, right: bool) -> None:
    assert fits(value, word) is right  # type: ignore[arg-type] # JSON
