"""The mode of a call is never less safe than what is wished, nor than what the policy allows the tier."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.isolation import Isolation, effective_isolation
from gateway.domain.risk import TIER_ORDER, Tier

ORDER = tuple(Isolation)
TABLES = st.dictionaries(st.sampled_from([Isolation.FORK, Isolation.SHARED]), st.sampled_from(TIER_ORDER))
WISHES = st.none() | st.sampled_from(ORDER)


@given(WISHES, TABLES, st.sampled_from(TIER_ORDER))
def test_the_mode_is_wished_and_allowed(wish: Isolation | None, table: dict[Isolation, Tier], tier: Tier) -> None:
    mode = effective_isolation(wish, table, tier)
    assert ORDER.index(mode) <= ORDER.index(wish or Isolation.PRISTINE)
    allowed = [each for each, highest in table.items() if TIER_ORDER.index(tier) <= TIER_ORDER.index(highest)]
    loosest = max((ORDER.index(each) for each in allowed), default=0)
    assert ORDER.index(mode) == min(ORDER.index(wish or Isolation.PRISTINE), loosest)


@given(WISHES, TABLES)
def test_more_risk_never_gives_a_looser_mode(wish: Isolation | None, table: dict[Isolation, Tier]) -> None:
    modes = [ORDER.index(effective_isolation(wish, table, tier)) for tier in TIER_ORDER]
    assert modes == sorted(modes, reverse=True)
