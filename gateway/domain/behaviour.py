"""What a plugin did lately, as far as it makes it riskier."""

from dataclasses import dataclass

from gateway.domain.request import Json
from gateway.domain.risk import RiskPart

DAYS = 30
COUNTED = 100  # of each kind; more change nothing
_POINTS = {"violations": (5, 30), "denials": (1, 10), "kills": (2, 10)}  # for each one, and at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Counts of the last 30 days: nobody gets a lower score by them."""

    violations: int = 0  # tries that its cell, or the gateway, refused as nobody may do them
    denials: int = 0  # questions that the policy answered with no
    kills: int = 0  # calls that ran too long or had to be killed

    @property
    def parts(self) -> tuple[RiskPart, ...]:
        """What it adds to a score."""
        found = (
            RiskPart(name=f"behaviour.{name}", points=min(getattr(self, name) * each, most))
            for name, (each, most) in _POINTS.items()
        )
        return tuple(part for part in found if part.points)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"violations": self.violations, "denials": self.denials, "kills": self.kills, "days": DAYS}
