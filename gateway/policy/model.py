"""The Casbin model of a home: the shipped one, or one that its operator wrote and said so."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its file spells it; two that differ in line ends, blank lines and comments alone are the same."""

    text: str = SHIPPED

    def is_spelt(self, data: bytes) -> bool:
        """Tell whether a file spells this model."""
        return [line for _, line in lines_of(data)] == [line for _, line in lines_of(self.text.encode())]

    @property
    def is_shipped(self) -> bool:
        """Whether it is the one that every home begins with."""
        return self.is_spelt(SHIPPED.encode())


SHIPPED_MODEL = Model()


def check_model(file: str, data: bytes, model: Model, problems: Problems) -> None:
    """Note where a file differs from the model that it must hold in more than line ends, blank lines and comments."""
    if model.is_spelt(data):
        return
    wanted = {line for _, line in lines_of(model.text.encode())}
    odd = next((number for number, line in lines_of(data) if line not in wanted), None)
    if not model.is_shipped:
        problems.error(file, "not the model in force: restore it, or start the gateway anew", odd or 1)
    elif odd is None:
        problems.error(file, "not the shipped model: lines are missing, doubled or in another order", 1)
    else:
        own = "set `[policy] custom_model = true` and start the gateway anew"
        problems.error(file, f"not the shipped model: restore it, or {own}", odd)


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """Give what a model's file says, line by line, each with its number."""
    numbered = ((number, line.strip()) for number, line in enumerate(data.split(b"\n"), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith(b"#")]
