"""Whatever is written into the files, reading them ends with problems and never with a crash."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.domain.decision import Effect, Reason
from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest, Facts
from gateway.policy.cases import run_cases
from gateway.policy.engine import build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy.text import PolicyText

FILES = ["model.conf", "roles.csv", "rules/10-guardrails.csv", "grants.csv", "conditions.toml", "risk.toml",
         "approval.toml", "entities.toml", "tests/guardrails.toml"]  # fmt: skip
PIECES = st.sampled_from(
    [
        "p, ", "g, ", ", ", "\n", "# ", "%", "%2C", "(", "]", "*", "plugin:notes", "group:plugins", "vault", "read",
        "deny", "rate(", "hours(09:00-17:00 Mon UTC)", "consent", "; ", "[", "[[case]]\n", "[[auto]]\n", "name = ",
        '"', "'''", "= 1", "[tiers]\n", "[base.vault]\n", "[calendar.x]\n", "9" * 30, "true", "{ a = 1 }", "\ufeff",
        "\r", "é", "2026-01-01",
    ]
)  # fmt: skip
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(name=st.sampled_from(FILES), text=st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=20).map("".join)))
@example(name="risk.toml", text="x = " + "9" * 5000)
@example(name="entities.toml", text="x = " + "[" * 5000)
@example(name="tests/guardrails.toml", text="[[case]]\nname = 1\nask = 2\ngiven = 3\nwant = []\nrule = {}\n")
@example(name="tests/guardrails.toml", text="case = 7")
@example(name="approval.toml", text="auto = [1]\nfour_eyes = 2\ncalls = 3")
@example(name="conditions.toml", text='calendar.x = 1\n[calendar."a.b"]\nhours = 3\nholidays = [[1]]\nzone = 4')
@example(name="risk.toml", text="base = 1\ntiers = 2\nmodifiers = 3")
@example(name="risk.toml", text="[base]\nvault = 1\n[tiers]\nlow = 1")
def test_any_text_is_read_to_its_end(starter_text: PolicyText, name: str, text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    parsed = parse_policy(starter_text.with_file(name, data))
    if parsed.ok:
        run_cases(build_policy_set(parsed, memberships={}, generation=1))
    assert all(problem.message for problem in parsed.problems)


LINES = st.sampled_from(range(24))


@QUIET
@given(number=LINES, at=st.integers(0, 120), letter=st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]))
def test_no_changed_letter_makes_a_guardrail_silently_vanish(
    starter_text: PolicyText, number: int, at: int, letter: str
) -> None:
    """A line of a deny rule with one letter changed is refused, says something else, or still speaks."""
    lines = starter_text.files["rules/10-guardrails.csv"].decode().split("\n")
    index = [i for i, line in enumerate(lines) if line.startswith("p, ")][number]
    line = lines[index]
    at = min(at, len(line) - 1)
    lines[index] = line[:at] + letter + line[at + 1 :]
    parsed = parse_policy(starter_text.with_file("rules/10-guardrails.csv", "\n".join(lines).encode()))
    if not parsed.ok:
        return
    changed = [rule for rule in parsed.rules if (rule.file, rule.line) == ("rules/10-guardrails.csv", index + 1)]
    # A line that begins with `#` was taken out on purpose; every other one is still a deny that can speak.
    assert lines[index].startswith("#") or [rule.effect for rule in changed] == [Effect.DENY]
    for rule in changed:
        request = AccessRequest(
            subject=Subject("plugin:x"), user=None, kind=rule.kind, level="admin", scope=rule.scope.replace("*", "x")
        )
        members = {"plugin:x": (rule.subject,)}
        policy = build_policy_set(parsed, memberships=members, generation=1)
        verdict = policy.decide(request, Facts(at=parsed.cases[0].given.at))
        assert (verdict.effect, verdict.reason) == (Effect.DENY, Reason.RULE)
