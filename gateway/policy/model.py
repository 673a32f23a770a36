"""The Casbin model that Hearthgate ships, and the check that a home still has it."""

from gateway.policy.problems import Problems

SHIPPED = """\
[request_definition]
r = sub, kind, level, scope, ctx
[policy_definition]
p = id, sub, kind, level, scope, cond, eft, why
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && kind(r.kind, p.kind) && level(r.kind, r.level, p.level, p.eft) \
&& scope(r.scope, p.scope) && cond(p.cond, p.eft, r.ctx)
"""


def check_model(file: str, data: bytes, problems: Problems) -> None:
    """Note where a model differs from the shipped one in more than line ends, blank lines and comments."""
    want = _lines(SHIPPED.encode())
    have = _lines(data)
    for number, line in have:
        if line not in {wanted for _, wanted in want}:
            problems.error(file, "not the shipped model: restore it, or set `[policy] custom_model = true`", number)
            return
    if [line for _, line in have] != [line for _, line in want]:
        problems.error(file, "not the shipped model: lines are missing, doubled or in another order", 1)


def _lines(data: bytes) -> list[tuple[int, bytes]]:
    numbered = ((number, line.strip()) for number, line in enumerate(data.split(b"\n"), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith(b"#")]
