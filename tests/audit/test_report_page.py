"""Whatever a record says, the page shows it as text."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.audit.report.buckets import MAX_BUCKETS, Buckets, Period
from gateway.audit.report.page import spell_page
from gateway.audit.report.tally import MAX_ROWS, Tally
from gateway.domain.decision import timestamp

SINCE = datetime(2026, 10, 1, tzinfo=UTC)
UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><style>*{display:none}",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></svg></table><h1>all is well",
    "<!-- ",
    "]]><![CDATA[",
    "&lt;b&gt;",
    "javascript:alert(1)",
    "\x1b[2J\x1b[31mred",
    "\x07\x00\x9b31m",
    "exe.\u202egnp",
    "\u2066hidden\u2069\u200b\ufeff",
    "\u2028line\u2029paragraph",
    "=cmd|'/C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "x" * 20_000,
    "{{7*7}}${7*7}",
]
_VOID = {"meta", "br", "line", "rect"}
_TAGS = {
    *("html", "head", "title", "style", "body", "header", "main", "nav", "section", "h1", "h2", "h3", "p", "ul", "ol"),
    *("li", "a", "b", "code", "pre", "span", "time", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg"),
    *("text", *_VOID),
}
_ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "aria-label", "aria-labelledby"),
    *("scope", "datetime", "viewbox", "role", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "text-anchor"),
}


class Strict(HTMLParser):
    """Reads a page, and refuses what our page never has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS, tag
        for name, value in attrs:
            assert name in _ATTRIBUTES, name
            assert name != "href" or (value or "").startswith("#")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def decision(text: str, *, effect: str = "allow", risk: int = 90) -> dict[str, Any]:
    return {
        "effect": effect, "reason": text, "dry_run": False, "kind": "vault", "level": "read", "user": text,
        "subject": f"plugin:{text}", "permission": "vault_read", "scope": text,
        "rule": {"id": text, "file": text, "line": 1, "why": text}, "near_misses": [], "risk": {"score": risk},
    }  # fmt: skip


def row(seq: int, text: str, event_type: str, decided: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "event_id": "audit-0", "seq": seq, "timestamp": timestamp(SINCE + timedelta(hours=seq)), "user_id": text,
        "plugin_id": text, "event_type": event_type, "category": "x", "risk_score": 90 if decided else 0,
        "details": {"reason": text, text: {"a": [text, {"b": text}]}, "on_behalf": text}, "resolution": text,
        "decision": decided, "trace_id": text,
    }  # fmt: skip


def report(rows: list[dict[str, Any]], text: str = "alice") -> dict[str, Any]:
    """Make a report of rows, every other text in it `text`."""
    tally = Tally(Period(SINCE, UNTIL), None)
    for each in rows:
        tally.add(each, datetime.fromisoformat(each["timestamp"]))
    generation = {
        "seq": 1, "event_id": "audit-0", "generation": 2, "version": text, "from_version": text, "rules": 3,
        "at": timestamp(SINCE), "by": text, "why": text, "in_force_before": False, "difference": f"+{text}\n-{text}\n",
    }  # fmt: skip
    right = {
        "subjects": [text], "permission": text, "scope": text, "terms": text, "rules": [text],
        "times": [[timestamp(SINCE), timestamp(UNTIL)]],
    }  # fmt: skip
    return {
        "made_at": timestamp(UNTIL), "made_by": text, "person": text,
        "period": {"since": timestamp(SINCE), "until": timestamp(UNTIL)}, **tally.as_json(),
        "policy": {"count": 1, "rows": [generation]},
        "could_read": {"count": 1, "rows": [right], "not_kept": [text], "own_model": [text]},
        "integrity": {
            "ok": False, "wrong": 1, "findings": [text], "first_seq": 1, "last_seq": 9, "checkpoints": 1, "key": text,
            "signatures": 1, "root": text, "newest": {"size": 9, "note": text},
        },
        "retention": {"first_seq": 1, "last_seq": 9, "segments": [
            {"file": text, "first": 1, "last": 4, "dropped": None, "root": text}]},
    }  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_no_text_of_a_record_becomes_markup_or_stays_hidden(text: str) -> None:
    types = (
        "approved",
        "permission_revoked",
        "consent_given",
        "permission_violation",
        "redaction",
        "key_added",
        "started",
    )
    rows = [row(number, text, event_type) for number, event_type in enumerate(types)]
    rows += [
        row(10, text, "access_granted", decision(text)),
        row(11, text, "access_denied", decision(text, effect="deny")),
    ]
    page = "".join(spell_page(report(rows, text)))
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", page)
    assert page.count("<style>") == page.count("</style>") == 1
    assert "<script" not in page


def test_the_page_allows_itself_nothing_but_its_style() -> None:
    page = "".join(spell_page(report([])))
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "http:" not in page
    assert "https:" not in page
    assert 'scope="col"' in page
    assert "<caption>" in page


def test_an_empty_report_says_so() -> None:
    empty = report([]) | {"integrity": None, "policy": {"count": 0, "rows": []}}
    page = "".join(spell_page(empty))
    assert "0 decisions" in page
    assert "There is no record in this period" in page


def test_long_lists_are_cut_and_the_page_tells_how_many_there_were() -> None:
    body = report([row(number % 700, "x", "approved") for number in range(MAX_ROWS + 5)])
    assert body["approvals"]["count"] == MAX_ROWS + 5
    assert len(body["approvals"]["rows"]) == MAX_ROWS
    assert f"(the first 2,000 of {MAX_ROWS + 5:,})" in "".join(spell_page(body))


@pytest.mark.parametrize("seconds", [1, 59, 61, 3_600, 7_777, 86_400, 604_800, 2_678_400, 31_536_000, 400_000_000])
def test_a_period_of_any_length_has_a_bearable_number_of_parts(seconds: int) -> None:
    period = Period(SINCE, SINCE + timedelta(seconds=seconds))
    buckets = Buckets(period)
    assert 1 <= buckets.count <= MAX_BUCKETS
    assert buckets.number(period.since) == 0
    assert buckets.number(period.until - timedelta(microseconds=1)) == buckets.count - 1
