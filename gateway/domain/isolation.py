"""How much the calls of a plugin are kept apart from each other."""

from collections.abc import Mapping
from enum import StrEnum

from gateway.domain.risk import TIER_ORDER, Tier


class Isolation(StrEnum):
    """From the safest: a new cell for each call; a child of a loaded plugin for each; one process for all of a user."""

    PRISTINE = "pristine"
    FORK = "fork"
    SHARED = "shared"


_ORDER = tuple(Isolation)
Allowed = Mapping[Isolation, Tier]  # the highest tier in which a mode may be used; one that is absent never is


def effective_isolation(wish: Isolation | None, allowed: Allowed, tier: Tier) -> Isolation:
    """Give the safer of what a manifest wishes and what the policy allows a plugin of this tier."""
    rank = TIER_ORDER.index(tier)
    loosest = max(
        (mode for mode in allowed if rank <= TIER_ORDER.index(allowed[mode])),
        key=_ORDER.index,
        default=Isolation.PRISTINE,
    )
    return min(wish or Isolation.PRISTINE, loosest, key=_ORDER.index)
