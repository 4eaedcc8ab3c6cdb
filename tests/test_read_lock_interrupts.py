"""An interrupt at any bytecode of taking and releasing the read lock leaves it released."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pylinker
from pylinker.linker.context import LinkContext

PACKAGE = str(Path(pylinker.__file__).parent)


class Interrupter:
    """Raises KeyboardInterrupt at the bytecode with a number, counting those of pylinker's own code."""

    def __init__(self, number: int) -> None:
        self._left = number

    def trace(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self.trace

    def run(self, operation: Callable[[], None]) -> bool:
        """Run an operation; whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            operation()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def read_guard(context: LinkContext) -> None:
    with context.shared.read_linker_state(context.group.state):
        pass


def reading(context: LinkContext) -> None:
    with context.reading():
        pass


@pytest.fixture
def context() -> Iterator[LinkContext]:
    with pylinker.Program(cache=False) as program:
        assert program._linker is not None
        yield program._linker.context


@pytest.mark.parametrize("operation", [read_guard, reading])
def test_an_interrupt_at_any_bytecode_leaves_the_lock_released(context: LinkContext, operation: Callable[[LinkContext], None]) -> None:
    number = 0
    interrupted = True
    while interrupted:
        number += 1
        interrupted = Interrupter(number).run(lambda: operation(context))
        guard = context.shared.try_write_linker_state()
        assert guard is not None, f"the lock is held after an interrupt at bytecode {number}"
        guard.release()
    assert number > 50
