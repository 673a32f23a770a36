import dataclasses
import random
from collections.abc import Callable

from gateway.domain.request import AccessRequest, Facts
from gateway.domain.scope import is_canonical
from gateway.policy.engine import PolicySet
from gateway.policy.selfcheck import differences, draw_request

Build = Callable[..., PolicySet]
Ask = Callable[[str, str, str, str], AccessRequest]
RULES = """\
p, a, plugin:notes, vault, write, notes/*, -, allow, why
p, b, robot:r%2C2, todo, close, *, -, allow, why
p, c, group:plugins, network, read, *.example.com, consent, deny, why
""".replace("consent, deny", "-, deny")


def test_a_sound_policy_differs_nowhere(build: Build, noon: Facts) -> None:
    policy = build(RULES, {"plugin:notes": ("group:plugins", "tier:low")})
    choose = random.Random(1).choice  # noqa: S311 (it must repeat, not surprise)
    asked = [draw_request(policy, choose) for _ in range(300)]
    assert list(differences(policy, asked, noon)) == []
    assert all(is_canonical(request.kind, request.scope) for request in asked)
    assert len({request.scope for request in asked}) > 10


def test_a_difference_is_told_with_both_answers(build: Build, ask: Ask, noon: Facts) -> None:
    policy = build(RULES)
    torn = dataclasses.replace(policy, parsed=build("p, z, plugin:web, vault, read, x, -, allow, why").parsed)
    [found] = differences(torn, [ask("plugin:notes", "vault", "read", "notes/a")], noon)
    told = found.as_json()
    # WHY: later versions of Casbin name the rule of an allow.
    assert str(told.pop("enforcer")).removesuffix(" by a") == "allow"
    assert told == {
        "subject": "plugin:notes", "kind": "vault", "level": "read", "scope": "notes/a",
        "stock": "deny", "policy_set": "allow",
    }  # fmt: skip
