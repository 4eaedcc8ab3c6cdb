"""The log stays short beside threads outside guest code, and they catch up to the same state."""

import random
import threading
from types import SimpleNamespace

import pytest

import pylinker
from guests import Guest, orderly
from pylinker.bench.invariants import table_of
from pylinker.linker.load.compaction import redundant
from pylinker.linker.plan.operation import (
    LoadModules,
    PrepareClosure,
    ResolveFunction,
    SlotPatch,
    UnloadModule,
)
from sync_world import World

PLAIN = [f"libplain{n}.so" for n in range(1, 6)]
LENGTH = 100


@pytest.fixture
def guest(scenario):
    with orderly(), Guest(scenario("threads")) as guest:
        guest["leave_constructor"] = 1
        yield guest


@pytest.fixture
def program(guest):
    return guest.program


class Parked:
    """A thread of the guest that stays outside guest code until it is asked what it has."""

    def __init__(self, program):
        self.linker = program._linker
        self.go = threading.Event()
        self.thread = program.spawn(self.wait)

    def wait(self):
        self.go.wait()
        return look(self.linker)

    def come_back(self):
        self.go.set()
        return self.thread.join(60)


def look(linker):
    """The contents of the calling thread's table, when it has caught up."""
    linker.catch_up()
    table = table_of(linker, linker.group)
    assert not [each for each in table if str(each).startswith("not ")]
    return table


def log_of(program):
    return program._linker.context.shared.log


def test_a_library_that_comes_and_goes_leaves_nothing_in_the_log(program):
    parked = Parked(program)
    for _ in range(300):
        program.dlopen("libplain1.so").close()
    assert len(log_of(program)) < LENGTH
    assert parked.come_back() == look(program._linker)


def test_a_thread_that_has_a_library_unloads_it_however_late_it_comes_back(program):
    library = program.dlopen("libplain1.so")
    parked = Parked(program)
    library.close()
    for _ in range(300):
        program.dlopen("libplain3.so").close()
    assert len(log_of(program)) < LENGTH
    with program.dlopen("libplain4.so"):  # in the slots of the first
        assert parked.come_back() == look(program._linker)


def test_a_load_whose_constructor_traps_leaves_nothing_in_the_log(guest, program):
    parked = Parked(program)
    guest["trap_in_constructor"] = 1
    for _ in range(150):
        with pytest.raises(pylinker.InitializationError):
            program.dlopen("libtrap.so")
    assert len(log_of(program)) < LENGTH
    assert parked.come_back() == look(program._linker)


def test_the_table_is_as_large_as_the_others_when_what_made_it_grow_was_erased(program):
    parked = Parked(program)
    for _ in range(100):
        libraries = [program.dlopen(name) for name in PLAIN]
        for library in libraries:
            library.close()
    log = log_of(program)
    with program._linker.context.exclusive():
        log.compact()
    assert len(log) == 0
    assert len(parked.come_back()) == program.statistics().table_slots


@pytest.mark.parametrize("seed", range(8))
def test_threads_that_come_back_at_random_have_what_everybody_has(program, seed):
    choice = random.Random(seed)
    opened, parked = [], []
    for _ in range(250):
        dice = choice.random()
        if dice < 0.4 or (dice < 0.8 and not opened):
            opened.append(program.dlopen(choice.choice([*PLAIN, "libnest.so", "libuser.so"])))
        elif dice < 0.8:
            opened.pop(choice.randrange(len(opened))).close()
        elif dice < 0.9 and len(parked) < 6:
            parked.append(Parked(program))
        elif parked:
            assert parked.pop(choice.randrange(len(parked))).come_back() == look(program._linker)
    assert len(log_of(program)) < LENGTH
    for each in parked:
        assert each.come_back() == look(program._linker)


def test_the_log_is_empty_when_the_last_thread_has_left(program):
    parked = Parked(program)
    program.dlopen("libplain1.so")
    assert len(log_of(program)) == 1
    parked.come_back()
    assert len(log_of(program)) == 0


# The rule itself


class Module(SimpleNamespace):
    __hash__ = object.__hash__


def module(name, *, unloaded=True):
    return Module(name=name, unloaded=unloaded)


def patch(slot, module):
    return SlotPatch(slot, SimpleNamespace(module=module))


def test_a_pair_goes_unless_a_group_is_between_the_two():
    a = module("a")
    log = {3: LoadModules((a,), 8, ()), 5: UnloadModule((a,), ((4, 2),))}
    assert redundant(log, [2, 5]) == {3, 5}
    for between in (3, 4):
        assert redundant(log, [2, between]) == set()


def test_an_unload_stays_whose_load_everybody_had_before():
    a = module("a")
    assert redundant({5: UnloadModule((a,), ())}, [4]) == set()


def test_what_is_there_stays():
    a = module("a", unloaded=False)
    log = {1: LoadModules((a,), 8, ()), 2: ResolveFunction(9, patch(8, a))}
    assert redundant(log, [0]) == set()


def test_a_slot_of_a_function_that_is_gone_goes():
    assert redundant({2: ResolveFunction(9, patch(8, module("a")))}, [0]) == {2}


def test_a_load_stays_for_the_slot_that_it_gave_to_another():
    a, there = module("a"), module("there", unloaded=False)
    log = {1: LoadModules((a,), 8, (patch(7, there),)), 2: UnloadModule((a,), ((4, 2),))}
    assert redundant(log, [0]) == {2}


def test_a_load_that_was_undone_goes_with_the_slots_that_it_gave():
    a, there = module("a"), module("there", unloaded=False)
    host = SimpleNamespace(slot=6)
    log = {
        1: LoadModules((a,), 8, (patch(7, there),), hosts=(host,)),
        2: UnloadModule((a,), ((4, 2), (7, 1), (6, 1))),
    }
    assert redundant(log, [0]) == {1, 2}
    log[2] = UnloadModule((a,), ((4, 2), (7, 1)))  # one of the two is left
    assert redundant(log, [0]) == set()


def test_of_two_libraries_of_a_load_one_may_stay():
    a, b = module("a"), module("b", unloaded=False)
    log = {1: LoadModules((a, b), 8, ()), 2: UnloadModule((a,), ((4, 2),))}
    assert redundant(log, [0]) == {2}
    assert redundant(log, [1]) == set()


def test_the_newest_closure_of_a_slot_stays():
    log = {
        number: PrepareClosure(slot, None, None, 1, 1)
        for number, slot in enumerate((7, 8, 7, 7), 1)
    }
    assert redundant(log, [0]) == {1, 3}


def test_an_erased_operation_is_nothing_and_the_numbers_stay():
    with World(groups=2) as world:
        log = world.shared.log
        for name in "abc":
            world.lead(world.groups[0], name)
        world.native.erase([1, 2])
        assert (log[1], log[2], log[3], len(log)) == (None, None, "c", 1)
        with pytest.raises(TypeError):
            world.native.erase([3, "no number"])
        assert len(log) == 1  # all or none
        world.lead(world.groups[0], "d")
        assert (log[3], log[4]) == ("c", "d")
        world.groups[1].follow()
        assert world.groups[1].replayed == [(3, "c"), (4, "d")]


def test_a_log_is_looked_through_when_it_has_doubled():
    with World(groups=2) as world:
        looks = []

        def nothing(operations, applied):
            looks.append((len(operations), applied))
            return ()

        world.shared.log.redundant = nothing
        for number in range(1000):
            world.lead(world.groups[0], str(number))
        assert [length for length, _applied in looks] == [32, 96, 224, 480, 992]
        assert looks[0][1] == {0, 32}
