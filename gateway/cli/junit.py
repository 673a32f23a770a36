"""Results of cases in the form that build servers read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from gateway.domain.visible import clean

if TYPE_CHECKING:
    from gateway.policy.cases import CaseResult


def junit_report(results: Sequence["CaseResult"]) -> str:
    """Give the report: one suite a file, one case a case."""
    suites: dict[str, list[CaseResult]] = {}
    for result in results:
        suites.setdefault(result.file, []).append(result)
    failures = sum(not result.passed for result in results)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="policy" tests="{len(results)}" failures="{failures}">',
        *(line for file, cases in suites.items() for line in _suite(file, cases)),
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _suite(file: str, cases: Sequence["CaseResult"]) -> list[str]:
    failures = sum(not case.passed for case in cases)
    head = f'  <testsuite name={_quoted(file)} tests="{len(cases)}" failures="{failures}">'
    return [head, *(line for case in cases for line in _case(case)), "  </testsuite>"]


def _case(case: "CaseResult") -> list[str]:
    file = _quoted(case.file)
    head = f'    <testcase name={_quoted(case.name)} classname={file} file={file} line="{case.line}"'
    if case.passed:
        return [f"{head}/>"]
    return [f"{head}>", f"      <failure message={_quoted(case.message)}/>", "    </testcase>"]


def _quoted(text: str) -> str:
    # WHY: XML has no way to write a control character.
    return quoteattr(clean(text))
