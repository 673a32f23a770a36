"""A model.conf that an operator wrote, strictly read.

What is asked, the columns of the rules, and roles stay as they are; matcher and effect are the operator's.
"""

import casbin
from casbin.util import escape_assertion

from gateway.errors import MalformedError
from gateway.policy.model import SHIPPED, Model, lines_of
from gateway.policy.own_model import own_matcher
from gateway.policy.problems import Problems

_ALLOW = "some(where (p.eft == allow))"
# SECURITY: an effect that allows what no rule allows is not among them.
_EFFECTS = (_ALLOW, f"{_ALLOW} && !some(where (p.eft == deny))", "priority(p.eft) || deny")
_FIXED = {"request_definition": "r", "policy_definition": "p", "role_definition": "g"}
_LETTERS = {**_FIXED, "policy_effect": "e", "matchers": "m"}
Said = dict[str, tuple[int, str]]  # by section: the line, and what it defines


def read_own_model(file: str, data: bytes, problems: Problems) -> Model:
    """Read a model, with everything noted that it may not say; the shipped one is one, too."""
    model, own = Model(data.decode("utf-8", "replace")), Problems()
    if model.is_shipped:
        return model
    said = _sections(file, data, own)
    for name in _LETTERS:
        if name not in said:
            own.error(file, f"[{name}] is missing", 1)
    _check_fixed(file, said, own)
    if "policy_effect" in said:
        _check_effect(file, *said["policy_effect"], own)
    if "matchers" in said:
        _check_matcher(file, *said["matchers"], own)
    if not own.sorted():
        _check_with_casbin(file, model, said, own)
    problems.extend(own.sorted())
    return model


def _sections(file: str, data: bytes, problems: Problems) -> Said:
    """Give the one definition of each section."""
    found: Said = {}
    section = ""
    for number, line in lines_of(data):
        text = line.decode("utf-8", "replace")
        letter, _, meaning = text.partition("=")
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1].strip()
            if section not in _LETTERS:
                problems.error(file, f"`{text[:80]}`: the sections are {', '.join(_LETTERS)}", number)
        elif section in found or letter.strip() != _LETTERS.get(section):
            wanted = _LETTERS.get(section, "m")
            problems.error(file, f"`{text[:80]}`: a section has one line, here `{wanted} = ...`", number)
        else:
            found[section] = number, meaning.strip()
    return found


def _check_fixed(file: str, said: Said, problems: Problems) -> None:
    shipped = _sections(file, SHIPPED.encode(), Problems())
    for name, letter in _FIXED.items():
        number, meaning = said.get(name, (0, shipped[name][1]))
        if _names(meaning) != _names(shipped[name][1]):
            problems.error(file, f"only effect and matcher may differ: `{letter} = {shipped[name][1]}`", number)


def _check_effect(file: str, number: int, effect: str, problems: Problems) -> None:
    if effect not in _EFFECTS:
        known = ", ".join(f"`e = {each}`" for each in _EFFECTS)
        problems.error(file, f"`{effect[:80]}`: one of {known}", number)


def _check_matcher(file: str, number: int, matcher: str, problems: Problems) -> None:
    try:
        own_matcher(matcher, lambda _subject, _role: False)
    except MalformedError as error:
        problems.error(file, f"the matcher: {error.message}", number)


def _check_with_casbin(file: str, model: Model, said: Said, problems: Problems) -> None:
    """Check that Casbin reads in the file what was read here: the same definitions, and no others."""
    try:
        read = casbin.Enforcer(casbin.Enforcer.new_model(text=model.text)).model
    except Exception as error:  # noqa: BLE001 (whatever Casbin does not like)
        problems.error(file, f"Casbin cannot read it: {type(error).__name__}", 1)
        return
    for name, letter in _LETTERS.items():
        number, meaning = said[name]
        found = read[letter] if letter in read.keys() else {}  # noqa: SIM118 (it is no mapping, and ends never)
        told = found[letter].value if [*found] == [letter] else None
        if told != (meaning if name in _FIXED else escape_assertion(meaning)):
            problems.error(file, f"Casbin reads [{name}] otherwise: write it as the shipped model does", number)


def _names(meaning: str) -> list[str]:
    return [each.strip() for each in meaning.split(",")]
