"""An interrupt at any place of taking and releasing the read lock leaves it released."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import pylinker
from interrupts import Interrupter
from pylinker.linker.groups.link_state import ThreadLinkState


def read_guard(context: ThreadLinkState) -> None:
    with context.shared.read_linker_state(context.group.state):
        pass


def reading(context: ThreadLinkState) -> None:
    with context.reading():
        pass


@pytest.fixture
def context() -> Iterator[ThreadLinkState]:
    with pylinker.Program(cache=False) as program:
        assert program._linker is not None
        yield program._linker.context


@pytest.mark.parametrize("operation", [read_guard, reading])
def test_an_interrupt_at_any_place_leaves_the_lock_released(
    context: ThreadLinkState, operation: Callable[[ThreadLinkState], None]
) -> None:
    at = 0
    while True:
        interrupter = Interrupter(at)
        assert interrupter.run(lambda: operation(context)) in (None, interrupter.error)
        guard = context.shared.try_write_linker_state()
        assert guard is not None, f"the lock is held after an interrupt at {interrupter.place}"
        guard.release()
        if interrupter.place is None:
            break
        at += 1
    assert at > 5
