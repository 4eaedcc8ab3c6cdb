"""Cleanup under any exception: Scope, completed and Finalized of the core (csrc/python/scope.h)."""

from __future__ import annotations

import gc
import signal
import sys
import warnings
from typing import Any

import pytest

from interrupts import Interrupter
from pylinker.errors import InternalError, LimitError
from pylinker.linker.plan.space import MemoryAllocator, SlotAllocator
from pylinker.linker.ranges import Grant, RangeAllocator, release_all
from pylinker.native.scopes import Finalized, Scope, completed
from pylinker.sync import LinkerShared


class Recorded(Scope):
    """Records calls; raises ``errors`` in ``leave``, in order, and ``enters`` in ``enter``."""

    def __init__(self, *errors: BaseException, enters: BaseException | None = None) -> None:
        self.calls: list[Any] = []
        self._errors = list(errors)
        self._enters = enters

    def enter(self) -> str:
        self.calls.append("enter")
        if self._enters is not None:
            raise self._enters
        return "entered"

    def leave(self, error: BaseException | None) -> None:
        self.calls.append(error)
        if self._errors:
            raise self._errors.pop(0)


class TestScope:
    def test_leaves_after_the_block(self) -> None:
        scope = Recorded()
        with scope as value:
            assert value == "entered" and scope.calls == ["enter"]
        assert scope.calls == ["enter", None]

    def test_leaves_with_the_exception_of_the_block(self) -> None:
        scope, error = Recorded(), KeyError("x")
        with pytest.raises(KeyError) as caught, scope:
            raise error
        assert caught.value is error
        assert scope.calls == ["enter", error]

    def test_leaves_if_it_was_not_entered(self) -> None:
        error = KeyError("x")
        scope = Recorded(enters=error)
        with pytest.raises(KeyError) as caught, scope:
            pytest.fail("the block ran")
        assert caught.value is error
        assert scope.calls == ["enter", error]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, RecursionError, MemoryError, TimeoutError])
    def test_leaves_again_if_that_is_interrupted(self, kind: type[BaseException]) -> None:
        first = kind("first")
        scope = Recorded(first, kind("second"))
        with pytest.raises(kind) as caught, scope:
            pass
        assert caught.value is first
        assert scope.calls == ["enter", None, None, None]

    def test_an_interrupt_comes_before_the_exception_of_the_block(self) -> None:
        error, interrupt = KeyError("x"), KeyboardInterrupt()
        scope = Recorded(interrupt)
        with pytest.raises(KeyboardInterrupt) as caught, scope:
            raise error
        assert caught.value is interrupt and interrupt.__context__ is error
        assert scope.calls == ["enter", error, error]

    def test_an_interrupt_comes_before_the_exception_of_entering(self) -> None:
        error, interrupt = KeyError("x"), KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt) as caught, Recorded(interrupt, enters=error):
            pytest.fail("the block ran")
        assert caught.value is interrupt and interrupt.__context__ is error

    @pytest.mark.parametrize("error", [LimitError("no"), InternalError("broken")])
    def test_what_cannot_be_done_is_not_tried_again(self, error: Exception) -> None:
        scope = Recorded(error)
        with pytest.raises(type(error)), scope:
            pass
        assert scope.calls == ["enter", None]

    def test_it_does_not_try_for_ever(self) -> None:
        scope = Recorded(*[KeyboardInterrupt() for _ in range(100)])
        with pytest.raises(KeyboardInterrupt), scope:
            pass
        assert 2 < len(scope.calls) < 20

    def test_leaving_has_frames_where_there_are_none(self) -> None:
        class Deep(Scope):
            done = False

            def enter(self) -> None:
                pass

            def leave(self, _error: BaseException | None) -> None:
                self._descend(100)
                self.done = True

            def _descend(self, left: int) -> None:
                if left:
                    self._descend(left - 1)

        limit = sys.getrecursionlimit()

        def exhaust(scope: Deep) -> None:
            with scope:
                exhaust_more()

        def exhaust_more() -> None:
            exhaust_more()

        scope = Deep()
        with pytest.raises(RecursionError):
            exhaust(scope)
        assert scope.done
        assert sys.getrecursionlimit() == limit


class TestCompleted:
    def test_returns_what_the_function_returns(self) -> None:
        assert completed(divmod, 7, 2) == (3, 1)

    def test_raises_the_first_exception_when_it_is_done(self) -> None:
        steps = [KeyboardInterrupt("first"), TimeoutError("second")]

        def step() -> int:
            if steps:
                raise steps.pop(0)
            return 5

        with pytest.raises(KeyboardInterrupt, match="first"):
            completed(step)
        assert not steps
        assert completed(step) == 5


class Dropped(Finalized):
    def __init__(self, log: list[str], *errors: BaseException) -> None:
        self._log = log
        self._errors = list(errors)

    def _drop(self) -> None:
        self._log.append("drop")
        if self._errors:
            raise self._errors.pop(0)


class TestFinalized:
    def test_calls_drop_once(self) -> None:
        log: list[str] = []
        Dropped(log)
        gc.collect()
        assert log == ["drop"]

    def test_an_interrupt_is_raised_a_moment_later(self) -> None:
        log: list[str] = []

        def drop() -> None:
            Dropped(log, KeyboardInterrupt("here"))
            for _ in range(10):
                pass

        with pytest.raises(KeyboardInterrupt, match="here"):
            drop()
        assert log == ["drop", "drop"]

    def test_and_not_within_another_finalizer(self) -> None:
        log: list[str] = []

        class Other:
            def __del__(self) -> None:
                Dropped(log, KeyboardInterrupt("here"))
                for _ in range(10):
                    pass
                log.append("other")

        def drop() -> None:
            Other()
            for _ in range(10):
                pass

        with pytest.raises(KeyboardInterrupt, match="here"):
            drop()
        assert log == ["drop", "drop", "other"]

    def test_too_few_frames_are_no_failure(self) -> None:
        log: list[str] = []
        Dropped(log, RecursionError("deep"))
        assert log == ["drop", "drop"]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_the_exception_on_its_way_stays(self) -> None:
        log: list[str] = []

        def fail() -> None:
            dropped = Dropped(log, InternalError("of the finalizer"))  # noqa: F841
            raise KeyError("of the function")

        with pytest.raises(KeyError, match="of the function"):
            fail()
        assert log == ["drop"]

    @pytest.mark.parametrize(
        "kind",
        [kind for kind in Finalized.__subclasses__() if kind.__module__.startswith("pylinker")],
        ids=lambda kind: kind.__name__,
    )
    def test_an_object_that_was_never_initialised_is_dropped_in_silence(self, kind: type) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kind.__new__(kind)
            gc.collect()


class TestDroppedGuards:
    @pytest.mark.parametrize("take", ["try_write_linker_state", "try_read_linker_state"])
    def test_a_guard_releases_itself_with_a_warning(self, take: str) -> None:
        shared: LinkerShared[Any, Any] = LinkerShared.new({})
        guard = getattr(shared, take)()
        with pytest.warns(ResourceWarning, match="Guard was dropped before it was released"):
            del guard
        with shared.try_write_linker_state():
            pass

    def test_a_token_releases_itself_with_a_warning(self) -> None:
        shared: LinkerShared[Any, Any] = LinkerShared.new({})
        token = shared.topology_coordinator.try_acquire()
        with pytest.warns(
            ResourceWarning, match="TopologyToken was dropped before it was released"
        ):
            del token
        with shared.topology_coordinator.try_acquire():
            pass

    def test_one_in_a_cycle_that_dies_with_its_linker_touches_nothing(self) -> None:
        shared: Any = LinkerShared.new({})
        shared.guard = shared.try_read_linker_state()
        shared.guard.is_given = False
        shared.itself = shared
        del shared
        gc.collect()

    def test_one_that_was_released_is_dropped_in_silence(self) -> None:
        shared: LinkerShared[Any, Any] = LinkerShared.new({})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with shared.topology_coordinator.try_acquire(), shared.try_write_linker_state():
                pass
            gc.collect()


def everywhere(operation: Any) -> None:
    """Interrupt ``operation`` (which makes what it changes, and returns a check) at each place."""
    at = 0
    while True:
        run, check = operation()
        interrupter = Interrupter(at)
        assert interrupter.run(run) in (None, interrupter.error)
        check(interrupter.place)
        if interrupter.place is None:
            break
        at += 1
    assert at > 3


class TestAllocators:
    def test_a_slot_that_is_free_is_in_the_table_wherever_an_allocation_was_interrupted(
        self,
    ) -> None:
        """Else a later load is told that the table cannot grow to the slot."""

        def operation() -> Any:
            slots, grants = SlotAllocator(1000), []
            slots.note_size(7)
            slots.allocate(3, 1, grants, module="x")

            def check(place: object) -> None:
                used = slots.used
                assert used == sum(grant.size for grant in grants), place
                for _ in range(3):
                    start = slots.allocate(2, 4, grants, module="x")
                    assert start + 2 <= slots.size, place
                release_all(grants)
                assert slots.used == 0 and not grants, place

            return (lambda: slots.allocate(4, 16, grants, module="x")), check

        everywhere(operation)

    def test_memory_is_given_out_with_its_grant_or_not_at_all(self) -> None:
        def operation() -> Any:
            memory, grants = MemoryAllocator(1 << 24), []
            size = [1 << 16]
            memory.grow = lambda pages: (
                size.__setitem__(0, size[0] + (pages << 16)) or size[0] - (pages << 16)
            )
            memory.allocate(100, 16, grants, module="x")

            def check(place: object) -> None:
                assert memory.used == sum(grant.size for grant in grants), place
                release_all(grants)
                assert memory.used == 0, place

            return (lambda: memory.allocate(70_000, 16, grants, module="x")), check

        everywhere(operation)

    def test_giving_back_goes_on_where_it_was_interrupted(self) -> None:
        def operation() -> Any:
            ranges, grants = RangeAllocator(), []
            ranges.extend(0, 1000)
            for size in (10, 20, 30, 40):
                ranges.allocate(size, 8, grants)
            kept = grants[1]
            assert isinstance(kept, Grant)

            def check(place: object) -> None:
                release_all(grants)
                assert (ranges.used, ranges.free_ranges) == (0, [(0, 1000)]), place

            return (lambda: release_all(grants)), check

        everywhere(operation)


@pytest.fixture(autouse=True)
def _signals() -> Any:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
