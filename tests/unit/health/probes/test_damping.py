"""Damping against the rule as it is written down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.health.probes.damping import Damping


def _state(results: list[bool | None], healthy: int, unhealthy: int) -> bool | None:
    """The last run of results that was long enough says it; None breaks a run."""
    state: bool | None = None
    for end in range(1, len(results) + 1):
        for is_good, threshold in ((True, healthy), (False, unhealthy)):
            if end >= threshold and results[end - threshold : end] == [is_good] * threshold:
                state = is_good
    return state


@given(
    st.lists(st.sampled_from([True, False, None]), max_size=30),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_so_many_in_a_row(results: list[bool | None], healthy: int, unhealthy: int) -> None:
    """After every result the state is what the last long enough run of results says."""
    damping = Damping(healthy, unhealthy)
    assert damping.state is None
    for count, result in enumerate(results, 1):
        if result is None:
            damping.interrupt()
        else:
            damping.see(result)
        assert damping.state is _state(results[:count], healthy, unhealthy)


def test_a_service_that_flaps_stays_as_it_is() -> None:
    """Results that come and go by turns change nothing."""
    damping = Damping(2, 3)
    for result in (True, True, False, False, True, False, False, True):
        damping.see(result)
        assert damping.state is not False
    assert damping.streak == 1
