"""The trampoline module, run in wasmtime."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pylinker.errors import UnsupportedError
from pylinker.wasm import (
    FuncType,
    Import,
    Kind,
    Limits,
    TableType,
    parse_module,
    trampoline_module,
    writer,
)

BINARY = FuncType(("i32", "i32"), ("i32",))
PROCEDURE = FuncType((), ())
SWAP = FuncType(("i64", "f32", "f64", "i32"), ("i32", "f64", "f32", "i64"))
VECTOR = FuncType(("v128", "i32", "v128"), ("v128",))

# The real functions. "lanes" calls a trampoline with vectors, as wasmtime-py has no values for
# them.
PROVIDER = """(module
    (import "" "vector" (func $vector (param v128 i32 v128) (result v128)))
    (global $calls (export "calls") (mut i32) (i32.const 0))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "count") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
    (func (export "swap") (param i64 f32 f64 i32) (result i32 f64 f32 i64)
        (local.get 3) (local.get 2) (local.get 1) (local.get 0))
    (func (export "vector") (param v128 i32 v128) (result v128)
        (i32x4.add (i32x4.add (local.get 0) (local.get 2)) (i32x4.splat (local.get 1))))
    (func (export "lanes") (param i32) (result i32)
        (i32x4.extract_lane 3
            (call $vector (v128.const i32x4 1 2 3 4) (local.get 0) (v128.const i32x4 10 20 30 40))))
    (func (export "trap") (unreachable)))"""

FUNCTIONS = [
    ("add", BINARY),
    ("count", PROCEDURE),
    ("swap", SWAP),
    ("vector", VECTOR),
    ("trap", PROCEDURE),
    ("again", BINARY),
]


class Linked:
    """The trampolines of FUNCTIONS, whose resolver puts the provider's functions into the table."""

    def __init__(self) -> None:
        self.store = wasmtime.Store()
        engine = self.store.engine
        self.resolved: list[int] = []
        resolve = wasmtime.Func(
            self.store, wasmtime.FuncType([wasmtime.ValType.i32()], []), self.resolve
        )
        module = wasmtime.Module(engine, trampoline_module(FUNCTIONS))
        self.trampolines = wasmtime.Instance(self.store, module, [resolve]).exports(self.store)
        provider = wasmtime.Module(engine, PROVIDER)
        self.provider = wasmtime.Instance(self.store, provider, [self.trampolines["t3"]]).exports(
            self.store
        )

    def resolve(self, slot: int) -> None:
        self.resolved.append(slot)
        name = "add" if FUNCTIONS[slot][0] == "again" else FUNCTIONS[slot][0]
        self.trampolines["plt"].set(self.store, slot, self.provider[name])

    def call(self, name: str, *arguments: float) -> object:
        return self.trampolines[name](self.store, *arguments)


@pytest.fixture
def linked() -> Linked:
    return Linked()


def test_the_first_call_resolves_and_the_next_ones_do_not(linked: Linked) -> None:
    assert linked.call("t0", 2, 3) == 5
    assert linked.resolved == [0]
    assert linked.call("t0", 20, 30) == 50
    assert linked.resolved == [0]
    assert linked.call("t5", 1, 1) == 2
    assert linked.resolved == [0, 5]


def test_a_stub_called_as_a_function_pointer_resolves_too(linked: Linked) -> None:
    assert linked.call("s0", 2, 3) == 5
    assert linked.call("t0", 2, 3) == 5
    assert linked.resolved == [0]


def test_the_table_holds_the_stubs(linked: Linked) -> None:
    table = linked.trampolines["plt"]
    assert table.size(linked.store) == len(FUNCTIONS)
    stub = table.get(linked.store, 0)
    assert isinstance(stub, wasmtime.Func)
    assert stub(linked.store, 4, 5) == 9
    assert linked.resolved == [0]


def test_a_function_without_parameters_and_results(linked: Linked) -> None:
    for _ in range(3):
        assert linked.call("t1") is None
    assert linked.provider["calls"].value(linked.store) == 3
    assert linked.resolved == [1]


def test_all_number_types_and_several_results_pass(linked: Linked) -> None:
    for _ in range(2):
        assert linked.call("t2", -(2**63), 0.5, -1e300, 2**31 - 1) == [
            2**31 - 1,
            -1e300,
            0.5,
            -(2**63),
        ]
    assert linked.resolved == [2]


def test_vectors_pass(linked: Linked) -> None:
    for _ in range(2):
        assert linked.provider["lanes"](linked.store, 100) == 144
    assert linked.resolved == [3]


def test_a_backtrace_shows_the_names(linked: Linked) -> None:
    for chain in (["trap", "trap@lazy"], ["trap"]):
        with pytest.raises(wasmtime.Trap) as caught:
            linked.call("t4")
        names = [frame.func_name for frame in caught.value.frames]
        assert names[1:] == chain[1:]
    assert linked.resolved == [4]


def instantiate(function: FuncType, resolve: Callable[[int], None]) -> tuple[wasmtime.Store, Any]:
    """The trampoline of one function."""
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, trampoline_module([("f", function)]))
    resolver = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), resolve)
    return store, wasmtime.Instance(store, module, [resolver]).exports(store)


def test_an_error_of_the_resolver_comes_through_and_the_next_call_asks_again() -> None:
    asked = []

    def resolve(slot: int) -> None:
        asked.append(slot)
        raise LookupError("nobody defines f")

    store, exports = instantiate(PROCEDURE, resolve)
    for _ in range(2):
        with pytest.raises(LookupError, match="nobody defines f"):
            exports["t0"](store)
    assert asked == [0, 0]


def test_a_resolver_that_does_nothing_exhausts_the_stack() -> None:
    store, exports = instantiate(PROCEDURE, lambda _: None)
    with pytest.raises(wasmtime.Trap, match="call stack exhausted"):
        exports["t0"](store)


def test_a_function_of_another_type_in_the_slot_traps() -> None:
    store, exports = instantiate(BINARY, lambda _: None)
    exports["plt"].set(store, 0, wasmtime.Func(store, wasmtime.FuncType([], []), lambda: None))
    with pytest.raises(wasmtime.Trap, match="indirect call type mismatch"):
        exports["t0"](store, 1, 2)


value_types = st.sampled_from(
    ["i32", "i64", "f32", "f64", "v128", "funcref", "externref", "exnref"]
)
func_types = st.builds(
    FuncType,
    st.lists(value_types, max_size=5).map(tuple),
    st.lists(value_types, max_size=3).map(tuple),
)
names = st.text(max_size=8)


@settings(max_examples=60, deadline=None)
@given(functions=st.lists(st.tuples(names, func_types), min_size=1, max_size=8))
@pytest.mark.slow
def test_the_module_is_valid_and_has_the_agreed_outside(
    functions, all_features: wasmtime.Engine
) -> None:
    data = trampoline_module(functions)
    wasmtime.Module.validate(all_features, data)
    info = parse_module(data)
    assert info.imports == (Import("pylinker", "resolve", Kind.FUNC, FuncType(("i32",), ())),)
    count = len(functions)
    assert info.tables == (TableType("funcref", Limits(count, count)),)
    outside = {
        name: info.export_type(export)
        for name, export in info.exports.items()
        if export.kind == Kind.FUNC
    }
    assert outside == {
        f"{kind}{slot}": type_ for slot, (_, type_) in enumerate(functions) for kind in "ts"
    }
    # Slot i holds stub i.
    slots = {function: place for function, (_, place) in info.element_slots.items()}
    assert slots == {info.exports[f"s{slot}"].index: slot for slot in range(count)}
    assert data == trampoline_module(list(functions))


def test_the_bytes_are_those_of_this_text() -> None:
    """The whole code generated for two functions of one type: nothing is superfluous."""
    expected = wasmtime.wat2wasm("""(module
        (type (func (param i32)))
        (type (func (param i32 i32) (result i32)))
        (import "pylinker" "resolve" (func (type 0)))
        (table 2 2 funcref)
        (export "plt" (table 0))
        (export "t0" (func $"f@plt")) (export "t1" (func $"a b@plt"))
        (export "s0" (func $"f@lazy")) (export "s1" (func $"a b@lazy"))
        (elem (i32.const 0) func $"f@lazy" $"a b@lazy")
        (func $"f@plt" (type 1)
            local.get 0 local.get 1 i32.const 0 return_call_indirect (type 1))
        (func $"a b@plt" (type 1)
            local.get 0 local.get 1 i32.const 1 return_call_indirect (type 1))
        (func $"f@lazy" (type 1)
            i32.const 0 call 0 local.get 0 local.get 1 i32.const 0 call_indirect (type 1))
        (func $"a b@lazy" (type 1)
            i32.const 1 call 0 local.get 0 local.get 1 i32.const 1 call_indirect (type 1)))""")
    assert trampoline_module([("f", BINARY), ("a b", BINARY)]).hex() == expected.hex()


def test_many_functions(wasm_tools) -> None:
    """Counts and indices of more than one byte; the resolver's own type is among them."""
    functions = [(f"f{number}", FuncType(("i32",) * (number % 200), ())) for number in range(3_000)]
    data = trampoline_module(functions)
    wasm_tools("validate", data=data)
    info = parse_module(data)
    assert all(
        info.export_type(info.exports[f"t{slot}"]) == type_
        for slot, (_, type_) in enumerate(functions)
    )


def test_each_trampoline_uses_its_own_slot() -> None:
    store = wasmtime.Store()
    asked: list[int] = []
    nothing = wasmtime.Func(store, wasmtime.FuncType([], []), lambda: None)

    def resolve(slot: int) -> None:
        asked.append(slot)
        exports["plt"].set(store, slot, nothing)

    resolver = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), resolve)
    module = wasmtime.Module(
        store.engine, trampoline_module([(f"f{slot}", PROCEDURE) for slot in range(200)])
    )
    exports = wasmtime.Instance(store, module, [resolver]).exports(store)
    for _ in range(2):
        for slot in range(200):
            exports[f"t{slot}"](store)
    assert asked == list(range(200))


def test_what_cannot_be_generated() -> None:
    with pytest.raises(ValueError, match="no functions"):
        trampoline_module([])
    for type_ in ("(ref null 5)", "(ref func)", "anyref"):
        for function in (FuncType((type_,), ()), FuncType((), (type_,))):
            with pytest.raises(UnsupportedError, match=re.escape(type_)):
                trampoline_module([("f", function)])
    with pytest.raises(UnsupportedError):
        writer.value_type("i8")
