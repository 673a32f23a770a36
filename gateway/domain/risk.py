"""Risk: a score from 0 to 100, the parts it is made of, and the tier it falls into."""

from enum import StrEnum

from msgspec import Struct

MAX_SCORE = 100


class Tier(StrEnum):
    """Bands of risk, from harmless to critical."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


TIER_ORDER = tuple(Tier)


class RiskPart(Struct, frozen=True, kw_only=True):
    """Something that adds to a score."""

    name: str
    points: int

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {"name": self.name, "points": self.points}


class Risk(Struct, frozen=True, kw_only=True):
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
