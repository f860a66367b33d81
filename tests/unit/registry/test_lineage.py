"""What tells histories apart, and a clock that is set."""

from __future__ import annotations

from hyper_registry.registry.lineage import Lineage
from hyper_registry.registry.wallclock import WallClock

SECOND = 1_000_000_000


def _hash(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"the rest"


def test_marks() -> None:
    """Each revision from the first on has the mark of its own hash, and no other has one."""
    lineage = Lineage()
    lineage.start(10, _hash(10))
    lineage.extend(_hash(n) for n in range(11, 31))
    assert [lineage.mark(n) for n in (10, 20, 30)] == [f"{n:016x}" for n in (10, 20, 30)]
    assert [lineage.mark(n) for n in (-1, 0, 9, 31)] == [""] * 4


def test_marks_that_are_forgotten() -> None:
    """Forgetting takes marks below the floor only, and leaves the others as they are."""
    lineage = Lineage()
    lineage.start(0, b"")
    lineage.extend(_hash(n) for n in range(1, 101))
    for floor in (1, 5, 60, 61, 100, 100, 3):
        lineage.forget(floor)
        assert [lineage.mark(n) for n in range(max(floor, 60), 101)][-1] == f"{100:016x}"
        assert lineage.mark(100) == f"{100:016x}"
    assert lineage.mark(59) == ""


def test_a_clock_that_is_set() -> None:
    """What it was set forward is taken back for as long as was asked, and no longer."""
    wall, steady = [1000 * SECOND], [0]
    clock = WallClock(lambda: wall[0], lambda: steady[0])
    for _ in range(1000):
        # Trimmed by a time service: forward by half a second in all, a little at a time.
        wall[0] += SECOND + SECOND // 2000
        steady[0] += SECOND
        assert clock.cautious(10_000) == clock.micros()
    wall[0] += 3600 * SECOND
    assert clock.cautious(60) == clock.micros() - 3600 * 1_000_000
    wall[0] -= 7200 * SECOND
    assert clock.cautious(60) == clock.micros() - 3600 * 1_000_000
    wall[0] += 61 * SECOND
    steady[0] += 61 * SECOND
    assert clock.cautious(60) == clock.micros()
    assert clock.cautious(3600) == clock.micros() - 3600 * 1_000_000
