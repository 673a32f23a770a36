"""The report as a page: self-contained, print-ready, every text of a record escaped and visible."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.report.plots import bars, courses, over_time, text
from gateway.audit.report.style import CSS, POLICY

Report = Mapping[str, Any]
_TOP = 12
_MAX_LINES = 200  # of one difference of the policy
_MAX_SHOWN = 2_000  # rows of one table of the page; the JSON has more


@dataclass(frozen=True, slots=True)
class Col:
    """A column: its heading, what it shows of a row, and how wide it is."""

    head: str
    show: Callable[[Mapping[str, Any]], str]
    width: str = ""


def spell_page(report: Report) -> Iterator[str]:
    """Give the page, piece by piece."""
    sections = _sections(report)
    period = report["period"]
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="color-scheme" content="light dark">\n'
    yield f"<title>Hearthgate report {when(period['since'])} to {when(period['until'])}</title>\n<style>{CSS}</style>\n"
    yield "</head>\n<body>\n<header>\n<h1>What was decided and done</h1>\n"
    yield f"<p>From {_time(period['since'])} up to {_time(period['until'])} (UTC)"
    yield f", with the data of <b>{text(report['person'])}</b> asked about" if report["person"] else ""
    yield f". Made {_time(report['made_at'])} by {text(report['made_by'])}.</p>\n</header>\n"
    yield _figures(report)
    yield '<nav aria-label="Sections">\n<ol>\n'
    yield from (f'<li><a href="#{name}">{text(title)}</a></li>\n' for name, title, _ in sections)
    yield "</ol>\n</nav>\n<main>\n"
    for name, title, body in sections:
        yield f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{text(title)}</h2>\n'
        yield from body
        yield "</section>\n"
    yield "</main>\n</body>\n</html>\n"


def when(moment: object) -> str:
    """Give a moment to the second."""
    return text(str(moment)[:19].replace("T", " "))


def _sections(report: Report) -> list[tuple[str, str, Iterable[str]]]:
    return [
        ("decisions", "Decisions", _decisions(report["decisions"])),
        ("data", "Who could read people's data, and who did", _data(report)),
        ("approvals", "Who approved what, and why", _events(report["approvals"], "Approvals and refusals")),
        (
            "permissions",
            "Permissions and plugins",
            _events(report["permissions"], "Changes of plugins and rights"),
        ),
        ("policy", "Policy", _policy(report["policy"])),
        ("violations", "Violations and lockdowns", _events(report["violations"], "Violations, lockdowns, lost work")),
        ("risk", "Calls of high risk", _events(report["high_risk"], "Decisions with a risk of 70 or more")),
        ("consents", "Consents", _events(report["consents"], "Consents given and withdrawn")),
        ("erasures", "Erasures", _events(report["erasures"], "Erasures of personal values")),
        ("keys", "Keys", _events(report["keys"], "Keys added, revoked and rotated")),
        (
            "system",
            "The gateway itself",
            _events(report["system"], "Starts, stops, recoveries, exports"),
        ),
        ("integrity", "Integrity", _integrity(report["integrity"])),
        ("retention", "Retention", _retention(report)),
    ]


def _figures(report: Report) -> str:
    decisions, integrity = report["decisions"], report["integrity"]
    sound = integrity is None or integrity["ok"]
    figures = [
        ("records", f"{report['records']:,}", ""),
        ("allowed", f"{decisions['allowed']:,}", ""),
        ("denied", f"{decisions['denied']:,}", ""),
        ("approvals", f"{report['approvals']['count']:,}", ""),
        ("policy changes", f"{sum(not each['in_force_before'] for each in report['policy']['rows']):,}", ""),
        ("violations", f"{report['violations']['count']:,}", ""),
        ("calls of high risk", f"{report['high_risk']['count']:,}", ""),
        ("integrity", "whole" if sound else "broken", "good" if sound else "bad"),
    ]
    items = "".join(f'<li><b class="{kind}">{value}</b>{text(name)}</li>' for name, value, kind in figures)
    return f'<ul class="figures" aria-label="Figures">{items}</ul>\n'


def _decisions(decisions: Report) -> Iterator[str]:
    total = decisions["allowed"] + decisions["denied"]
    yield f"<p>{total:,} decisions: {decisions['allowed']:,} allowed and {decisions['denied']:,} denied"
    yield f", and {decisions['dry_runs']:,} dry runs that had no effect.</p>\n" if decisions["dry_runs"] else ".</p>\n"
    if not total:
        return
    yield '<p class="key"><span class="allowed"></span>allowed<span class="denied"></span>denied</p>\n'
    yield over_time(decisions["over_time"], decisions["step"])
    starts = [each["from"] for each in decisions["over_time"]]
    for by in ("plugin", "user"):
        rows = decisions[f"by_{by}"]
        if not rows:
            continue
        yield f"<h3>By {by}</h3>\n"
        yield bars(rows[:_TOP], by)
        yield courses(rows[:_TOP], starts, by, decisions["step"])
        yield from _counts(rows, by)
    yield "<h3>By reason and rule</h3>\n"
    yield from _counts(decisions["by_reason"], "reason")
    yield from _counts(decisions["by_rule"], "rule")
    busy = [each for each in decisions["over_time"] if each["allowed"] or each["denied"]]
    yield from _table(
        f"Decisions over time, per {decisions['step']}",
        [Col("from", lambda row: _time(row["from"])), *_YES_NO],
        {"count": len(busy), "rows": busy},
    )
    yield "<h3>What was denied</h3>\n"
    yield from _table("Denials, the most frequent first", _DENIALS, _listed(decisions["denials"]))


def _counts(rows: Sequence[Any], by: str) -> Iterator[str]:
    columns = [Col(by, lambda row: text(row["name"])), *_YES_NO]
    yield from _table(f"Decisions by {by}", columns, _listed(rows))


def _data(report: Report) -> Iterator[str]:
    whose = f"<b>{text(report['person'])}</b>" if report["person"] else "each person"
    could, uses = report["could_read"], report["data_uses"]
    yield (
        "<p>The vault and user data are held for each person apart, and a scope means that scope of the person on "
        f"whose behalf a plugin runs. So these rights reach the data of {whose}, for as long as the plugin was active "
        "and its terms were met; <code>…</code> stands for any name that no rule names.</p>\n"
    )
    if could["not_kept"]:
        missing = len(could["not_kept"])
        yield f'<p class="bad">{missing} policies of the period are not kept: what they allowed is not told.</p>\n'
    if could["own_model"]:
        own = len(could["own_model"])
        why = "have a model that the operator wrote"
        yield f'<p class="bad">{own} policies of the period {why}: what they allowed is not told.</p>\n'
    yield from _table("Who could, by the policies in force", _COULD, could)
    yield from _table("Who did: allowed accesses, the most frequent first", _USES, uses)
    if uses["not_listed"]:
        yield f'<p class="note">{uses["not_listed"]:,} further accesses are of groups beyond these.</p>\n'


def _events(listing: Report, caption: str) -> Iterator[str]:
    yield from _table(caption, _EVENTS, listing)


def _policy(policy: Report) -> Iterator[str]:
    yield from _table("Generations of the policy", _GENERATIONS, policy)
    for row in policy["rows"]:
        if row["in_force_before"]:
            continue
        yield f"<h3>What generation {row['generation']} changed</h3>\n"
        if row["difference"] is None:
            yield '<p class="note">The files of this change are not kept.</p>\n'
        elif row["from_version"] is None:
            yield '<p class="note">It was the first; its files are in the report as JSON.</p>\n'
        elif row["difference"]:
            yield from _diff(row["difference"].splitlines())
        else:
            yield '<p class="note">No file; only what the gateway knows of plugins.</p>\n'


def _diff(lines: Sequence[str]) -> Iterator[str]:
    yield f"<pre>{''.join(map(_diff_line, lines[:_MAX_LINES]))}</pre>\n"
    if len(lines) > _MAX_LINES:
        yield f'<p class="note">The first {_MAX_LINES:,} of {len(lines):,} lines.</p>\n'


def _diff_line(line: str) -> str:
    kind = "added" if line.startswith("+") else "removed" if line.startswith("-") else "line"
    return f'<span class="{kind}">{text(line)}</span>'


def _integrity(integrity: Report | None) -> Iterator[str]:
    if integrity is None:
        yield "<p>There is no record in this period.</p>\n"
        return
    if integrity["ok"]:
        yield '<p class="good">Every record is the one that was written.</p>\n'
    else:
        yield f'<p class="bad">{integrity["wrong"]:,} things are not as they were written.</p>\n<ul>\n'
        yield from (f"<li>{text(each)}</li>\n" for each in integrity["findings"])
        yield "</ul>\n"
    yield (
        f"<p>Records {integrity['first_seq']:,} to {integrity['last_seq']:,} were read again, their hashes computed "
        "from their content, the tree from the hashes, and its root compared with "
        f"{integrity['checkpoints']:,} checkpoints, {integrity['signatures']:,} of whose signatures were checked with "
        "the log's own key. Who does not trust this gateway checks an export with a key and a checkpoint kept "
        "elsewhere: <code>hearthgate audit verify</code>.</p>\n"
    )
    yield f"<p>Root: <code>{text(integrity['root'])}</code><br>Key: <code>{text(integrity['key'])}</code></p>\n"
    if integrity["newest"] is not None:
        yield f"<p>Newest checkpoint of the period, of {integrity['newest']['size']:,} records:</p>\n"
        yield f"<pre>{text(integrity['newest']['note'])}</pre>\n"


def _retention(report: Report) -> Iterator[str]:
    kept = report["retention"]
    if kept["last_seq"] is None:
        yield "<p>The log has no record.</p>\n"
    else:
        yield f"<p>The log holds records {kept['first_seq']:,} to {kept['last_seq']:,}.</p>\n"
        yield from _table("Closed files of the log", _SEGMENTS, _listed(kept["segments"]))


def _table(caption: str, columns: Sequence[Col], listing: Report) -> Iterator[str]:
    rows, count = listing["rows"], listing["count"]
    if not rows:
        yield f'<p class="note">{text(caption)}: none.</p>\n'
        return
    shown = rows[:_MAX_SHOWN]
    cut = "" if count <= len(shown) else f" (the first {len(shown):,} of {count:,})"
    yield f"<table>\n<caption>{text(caption)}{cut}</caption>\n<thead><tr>"
    yield "".join(f'<th scope="col" class="{each.width}">{text(each.head)}</th>' for each in columns)
    yield "</tr></thead>\n<tbody>\n"
    for row in shown:
        first, *rest = columns
        cells = "".join(f'<td class="{each.width}">{each.show(row)}</td>' for each in rest)
        yield f'<tr><th scope="row" class="{first.width}">{first.show(row)}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n"


def _listed(rows: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(rows), "rows": rows}


def _time(moment: object) -> str:
    return f'<time datetime="{text(moment)}">{when(moment)}</time>'


def _member(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "-" if row.get(name) in (None, "") else text(row[name])


def _number(name: str) -> Col:
    return Col(name, lambda row: f"{row[name]:,}", "number slim")


def _who(row: Mapping[str, Any]) -> str:
    behalf = f" for {text(row['on_behalf'])}" if row["on_behalf"] else ""
    return f"{_member('by')(row)}{behalf}"


def _happened(row: Mapping[str, Any]) -> str:
    return f'{text(row["event_type"])}\n<span class="faint">record {row["seq"]:,}</span>'


def _times(row: Mapping[str, Any]) -> str:
    return "\n".join(f"{_time(since)} to\n{_time(until)}" for since, until in row["times"])


_YES_NO = (_number("allowed"), _number("denied"))
_DENIALS = (
    Col("who", _member("subject")),
    Col("permission", _member("permission"), "short"),
    Col("scope", _member("scope")),
    Col("reason", _member("reason"), "short"),
    _number("count"),
    Col("last", lambda row: _time(row["last"]), "when"),
)
_COULD = (
    Col("who", lambda row: text(", ".join(row["subjects"]))),
    Col("permission", _member("permission"), "short"),
    Col("scope", _member("scope")),
    Col("terms", _member("terms")),
    Col("by", lambda row: text(", ".join(row["rules"]))),
    Col("when", _times, "when"),
)
_USES = (
    Col("whose data", _member("person"), "short"),
    Col("who", _member("subject")),
    Col("permission", _member("permission"), "short"),
    Col("scope", _member("scope")),
    _number("count"),
    Col("first and last", lambda row: f"{_time(row['first'])}\n{_time(row['last'])}", "when"),
)
_EVENTS = (
    Col("when", lambda row: _time(row["at"]), "when"),
    Col(
        "what happened",
        lambda row: f'{text(row["event_type"])}\n<span class="faint">record {row["seq"]:,}</span>',
        "short",
    ),
    Col("plugin", _member("plugin"), "name"),
    Col("by", _who, "name"),
    Col("what", _member("what")),
    Col("why", _member("why")),
)
_SEGMENTS = (
    Col("file", _member("file")),
    Col("first record", lambda row: f"{row['first']:,}", "number short"),
    Col("last record", lambda row: f"{row['last']:,}", "number short"),
    Col(
        "kept", lambda row: "yes" if row["dropped"] is None else f"dropped, as record {row['dropped']:,} tells", "short"
    ),
    Col("root", lambda row: f"<code>{text(row['root'])}</code>"),
)
_GENERATIONS = (
    Col("generation", lambda row: f"{row['generation']:,}", "slim"),
    Col("since", lambda row: _time(row["at"]), "when"),
    Col("by", _member("by"), "short"),
    Col("why", _member("why")),
    Col("rules", lambda row: text(row["rules"]), "number slim"),
    Col("version", lambda row: f"<code>{text(row['version'])}</code>"),
)
