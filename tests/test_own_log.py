"""What the gateway tells of itself: one line each, nothing secret, whatever is logged."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.own_log import described, masked, quiet_libraries, set_up_own_log, tell_loop

CANARY = "zzCanary0123456789"
OWN = logging.getLogger("hearthgate.part")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("hearthgate")
    handlers, levels, hook = root.handlers[:], (root.level, own.level), threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    threading.excepthook = hook


@pytest.mark.parametrize(
    "text",
    [
        f"key hg_0123abcd_{CANARY}{CANARY}1234567 was sent",
        f"Authorization: Bearer {CANARY}",
        f"authorization={CANARY}",
        f'{{"Authorization": "Basic {CANARY}"}}',
        f"[(b'Set-Cookie', b'{CANARY}')]".replace("', b'", ": "),
        f"X-API-Key: {CANARY}",
        f"api_key={CANARY}&b=1",
        f"webhook_secret: '{CANARY}'",
        f"access-token={CANARY}",
        f'{{"password": "{CANARY}"}}',
        f"GET https://a.test/path?key={CANARY} went wrong",
        f"https://user:{CANARY}@a.test/",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
        f"a=b&api_key={CANARY}",
        f"it said token=token={CANARY}",
        f"--client-secret={CANARY}",
        f"ws://a://b?{CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    assert CANARY not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "rules/20-vault.csv:14: effect 'Deny': allow or deny",
        "plugin notes: approve, so it is approved (it was registered)",
        "execution 019a of notes killed after 0.300 s",
        "https://a.test/path was not reached",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "word", ["token-", "api_key_", "a-", "://a", "secret ", "token=", "://a?", "-----BEGIN ", "hg_"]
)
def test_nobody_holds_the_gateway_up_by_what_it_tells(word: str) -> None:
    # WHY: a process of its own, for what matches for hours cannot be interrupted.
    command = [sys.executable, "-c", "import sys; from gateway.own_log import masked; masked(sys.stdin.read())"]
    subprocess.run(command, input=word * (120_000 // len(word)), text=True, timeout=30, check=True)


def test_a_line_is_no_longer_than_people_read_and_masked_before_it_is_cut() -> None:
    stream = io.StringIO()
    set_up_own_log("info", "text", stream)
    OWN.warning("%s", "x" * 16_370 + f" token={CANARY} " + "y " * 500_000)
    told = stream.getvalue()
    assert len(told) < 17_000
    assert told.endswith(" characters more)\n")
    assert CANARY[:4] not in told


def test_the_id_of_a_key_is_kept_for_it_tells_which_to_revoke() -> None:
    assert masked(f"hg_0123abcd_{CANARY}") == "hg_0123abcd_***"


@given(st.text())
def test_whatever_is_told_is_one_line_of_printable_characters(text: str) -> None:
    for form in ("text", "json"):
        stream = io.StringIO()
        set_up_own_log("info", form, stream)
        OWN.warning("%s", text)
        assert stream.getvalue().endswith("\n")
        line = stream.getvalue()[:-1]
        assert line.isprintable()
        if form == "json":
            assert json.loads(line)["part"] == "part"


def fail(words: str = CANARY) -> None:
    raise ValueError(words)


def raised(words: str) -> Exception:
    with pytest.raises(ValueError, match="Canary") as caught:
        fail(words)
    return caught.value


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_told_by_its_type_and_place_and_not_by_its_words(form: str) -> None:
    stream = io.StringIO()
    set_up_own_log("debug", form, stream)
    error = raised(CANARY)
    OWN.error("it failed", exc_info=error)
    logging.getLogger("some.library").error("it failed", exc_info=error)
    OWN.error("it failed: %s", described(error))
    tell_loop(None, {"message": CANARY, "exception": error})
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    told = stream.getvalue()
    assert CANARY not in told
    assert len(told.splitlines()) == 5
    assert all("ValueError" in line and "test_own_log.py" in line for line in told.splitlines())


def test_a_line_that_cannot_be_told_prints_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()
    set_up_own_log("info", stream=io.StringIO())
    OWN.warning("%d", CANARY)
    told = capsys.readouterr().err
    assert "could not be told" in told
    assert CANARY not in told


@pytest.mark.parametrize(
    ("level", "told"), [("debug", "DIWE"), ("info", "IWE"), ("warning", "WE"), ("error", "E")], ids=lambda each: each
)
def test_the_level_is_of_the_gateways_own_lines_and_libraries_warn(level: str, told: str) -> None:
    stream = io.StringIO()
    set_up_own_log(level, stream=stream)
    for name in ("hearthgate.part", "httpcore.http11"):
        logger = logging.getLogger(name)
        for word in "DIWE":
            logger.log({"D": 10, "I": 20, "W": 30, "E": 40}[word], "%s-%s", name.partition(".")[0], word)
    lines = stream.getvalue().splitlines()
    assert "".join(line[-1] for line in lines if "hearthgate-" in line) == told
    assert "".join(line[-1] for line in lines if "httpcore-" in line) == "WE"


def test_no_program_can_make_libraries_tell_heads_of_requests() -> None:
    quiet_libraries()
    logging.getLogger().setLevel(logging.DEBUG)
    for name in ("httpcore.http11", "httpcore.connection", "httpx", "uvicorn.error", "asyncio", "casbin.enforcer"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
