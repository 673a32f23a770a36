"""What several formats say of a record in the same way."""

from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from gateway.audit.formats.redaction import Row

PRODUCT = "Hearthgate"
VERSION = version("hearthgate")
MODERATE, HIGH, CRITICAL = 25, 50, 75
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIERS = {"low": 1, "moderate": 2, "high": 3, "critical": 4}


def milliseconds(timestamp: str) -> int:
    """Give a moment as milliseconds since 1970."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // _MILLISECOND


def risk_level(row: Row) -> int:
    """Give the risk as 1 low to 4 critical, by the tier of the policy that judged it where there is one."""
    if row["decision"] is not None:
        return _TIERS.get(row["decision"]["risk"]["tier"], 1)
    score: int = row["risk_score"]
    return 1 + (score >= MODERATE) + (score >= HIGH) + (score >= CRITICAL)


def sentence(row: Row) -> str:
    """Say a record in a few words, none of them personal."""
    decision = row["decision"]
    who = row["plugin_id"] or "gateway"
    if decision is None:
        return f"{row['event_type']} {who} {row['resolution']}"
    return f"{decision['effect']} {who} {decision['permission']}"
