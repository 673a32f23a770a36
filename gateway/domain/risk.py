"""Risk: a score from 0 to 100, the parts it is made of, and the tier it falls into."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SCORE = 100


class Tier(StrEnum):
    """Bands of risk, from harmless to critical."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


TIER_ORDER = tuple(Tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskPart:
    """Something that adds to a score."""

    name: str
    points: int

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {"name": self.name, "points": self.points}


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A score with its parts; the score is their sum, at most 100."""

    score: int
    tier: Tier
    parts: tuple[RiskPart, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {
            "score": self.score,
            "tier": self.tier.value,
            "parts": [part.as_json() for part in self.parts],
        }
