"""The allocator of address ranges, against a model that remembers every unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylinker.errors import InternalError
from pylinker.linker.ranges import Grant, RangeAllocator, align_up, release_all


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 33))
def test_align_up_is_the_first_multiple_not_below(value, alignment):
    aligned = align_up(value, alignment)
    assert aligned % alignment == 0
    assert value <= aligned < value + alignment


@given(st.data())
def test_ranges_never_overlap_and_come_back_whole(data):
    ranges = RangeAllocator()
    owned: set[int] = set()
    given_out: dict[int, int] = {}
    end = 0
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["extend", "allocate", "release"]))
        if action == "extend":
            start = end + data.draw(st.integers(0, 5))
            end = start + data.draw(st.integers(1, 64))
            ranges.extend(start, end)
            owned |= set(range(start, end))
        elif action == "allocate":
            size, alignment = data.draw(st.integers(1, 32)), 1 << data.draw(st.integers(0, 5))
            base = ranges.allocate(size, alignment)
            taken = {
                unit for start, length in given_out.items() for unit in range(start, start + length)
            }
            free = owned - taken
            fits = [
                unit
                for unit in sorted(free)
                if unit % alignment == 0 and set(range(unit, unit + size)) <= free
            ]
            assert base == (fits[0] if fits else None)
            if base is not None:
                given_out[base] = size
        elif given_out:
            start = data.draw(st.sampled_from(sorted(given_out)))
            release_all([Grant(ranges, start, given_out.pop(start))])
    for start, size in given_out.items():
        release_all([Grant(ranges, start, size)])
    assert ranges.used == 0
    assert ranges.free == len(owned)


def test_releasing_twice_is_a_broken_invariant():
    ranges = RangeAllocator()
    ranges.extend(0, 100)
    base = ranges.allocate(10, 1)
    release_all([Grant(ranges, base, 10)])
    with pytest.raises(InternalError, match="free already"):
        release_all([Grant(ranges, base, 10)])
