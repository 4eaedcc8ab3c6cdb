"""Calls from Python of every signature, both ways to call, beside wasmtime-py's own call."""

from __future__ import annotations

import decimal
import math
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

import pylinker
from pylinker.wasm import FuncType

# A function mixes all its arguments into one number, so that none can be left out or change places,
# and makes its results of that. v128 is nothing that wasmtime-py can pass: beside each function
# there is one with its vectors cut into two i64.

SCALARS = ("i32", "i64", "f32", "f64")
RESULTS: tuple[tuple[str, ...], ...] = (
    (),
    *((each,) for each in (*SCALARS, "v128")),
    ("i32", "i64"),
    ("f64", "f32", "v128", "i32", "i64"),
)
BITS = {
    "i32": "i64.extend_i32_u",
    "i64": "",
    "f32": "i32.reinterpret_f32 i64.extend_i32_u",
    "f64": "i64.reinterpret_f64",
}
MAKE = {
    "i32": "i32.wrap_i64",
    "i64": "",
    "f32": "f32.convert_i64_s",
    "f64": "f64.convert_i64_s",
    "v128": "i64x2.splat",
}


def parameters() -> Iterator[tuple[str, ...]]:
    """Signatures of 0 to 8 parameters: of one type, of all types, integers, floats, vectors."""
    for count in range(9):
        yield from (count * (each,) for each in SCALARS)
        yield from (
            tuple(SCALARS[(index + first) % 4] for index in range(count)) for first in range(4)
        )
        yield tuple(SCALARS[index % 2] for index in range(count))
        yield tuple(SCALARS[2 + index % 2] for index in range(count))
        yield tuple(("v128", "i32", "v128", "f64")[index % 4] for index in range(count))


SHAPES = {
    f"f{index}": FuncType(*shape)
    for index, shape in enumerate(dict.fromkeys((p, r) for p in parameters() for r in RESULTS))
}


def flat(types: tuple[str, ...]) -> list[str]:
    """The types with vectors cut in two."""
    return [each for type_ in types for each in (("i64", "i64") if type_ == "v128" else (type_,))]


def body(name: str, type_: FuncType) -> str:
    """The text of a function, and of the same for who has no vectors."""
    mixing = []
    for index, each in enumerate(type_.params):
        lanes = (
            [f"i64x2.extract_lane {lane}" for lane in (0, 1)] if each == "v128" else [BITS[each]]
        )
        mixing += [
            f"local.get $h i64.const 1000003 i64.mul local.get {index} {bits} i64.xor local.set $h"
            for bits in lanes
        ]
    results = "".join(
        f" local.get $h i64.const {index} i64.add {MAKE[each]}\n"
        for index, each in enumerate(type_.results)
    )
    whole = (
        f"(func ${name} (export {name!r}) {signature(type_.params, type_.results)} "
        f"(local $h i64) {' '.join(mixing)} {results})"
    )
    passing, place = [], 0
    for each in type_.params:
        passing.append(
            f"local.get {place} i64x2.splat local.get {place + 1} i64x2.replace_lane 1"
            if each == "v128"
            else f"local.get {place}"
        )
        place += 2 if each == "v128" else 1
    saved = [f"local.set $r{index}" for index in reversed(range(len(type_.results)))]
    given_back = [
        f"local.get $r{index} i64x2.extract_lane 0 local.get $r{index} i64x2.extract_lane 1"
        if each == "v128"
        else f"local.get $r{index}"
        for index, each in enumerate(type_.results)
    ]
    room = " ".join(f"(local $r{index} {each})" for index, each in enumerate(type_.results))
    split = (
        f"(func (export {'o' + name!r}) "
        f"{signature(tuple(flat(type_.params)), tuple(flat(type_.results)))} {room} "
        f"{' '.join(passing)}"
    )
    return f"{whole}\n{split} call ${name} {' '.join(saved)} {' '.join(given_back)})\n".replace(
        "'", '"'
    )


def signature(params: tuple[str, ...], results: tuple[str, ...]) -> str:
    return f"(param {' '.join(params)}) (result {' '.join(results)})"


MODULE = (
    '(module (memory (export "memory") 1)\n'
    + "".join(body(name, type_) for name, type_ in SHAPES.items())
    + ")"
)

Way = Callable[[pylinker.Function], Callable[..., Any]]
WAYS: dict[str, Way] = {
    "function": lambda function: function,
    "bound": lambda function: function.bind(),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    """A way to call a function."""
    return WAYS[request.param]


class Both:
    """The same module in pylinker and in wasmtime-py."""

    def __init__(self) -> None:
        data = bytes(wasmtime.wat2wasm(MODULE))
        self.program = pylinker.Program(data, cache=False)
        library = self.program.main
        self.ways = {name: (library[name], library[name].bind()) for name in SHAPES}
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        self._exports = wasmtime.Instance(self._store, wasmtime.Module(engine, data), []).exports(
            self._store
        )

    def expected(self, name: str, arguments: list[Any]) -> Any:
        """The results of wasmtime-py's call, with vectors reassembled."""
        type_ = SHAPES[name]
        cut: list[Any] = []
        for argument, each in zip(arguments, type_.params, strict=True):
            cut += (
                struct.unpack("<qq", argument)
                if each == "v128"
                else [float(argument) if each in ("f32", "f64") else argument]
            )
        answer = self._exports["o" + name](self._store, *cut)
        numbers = iter([] if answer is None else answer if isinstance(answer, list) else [answer])
        results = [
            struct.pack("<qq", next(numbers), next(numbers)) if each == "v128" else next(numbers)
            for each in type_.results
        ]
        return None if not results else results[0] if len(results) == 1 else tuple(results)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    both = Both()
    yield both
    both.program.close()


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same, kind and bits, but for what is in a NaN."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other) or (
            math.isnan(one) and math.isnan(other)
        )
    return type(one) is type(other) and one == other


def edges(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high) | st.sampled_from(
        [low, low + 1, -1, 0, 1, (high - 1) // 2, (high + 1) // 2, high]
    )


SENTINEL = -(2**63) + 1
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i32": edges(-(2**31), 2**32 - 1),
    "i64": edges(-(2**63), 2**64 - 1) | st.just(SENTINEL),
    "f32": st.floats(width=32) | st.floats() | st.integers(-(2**30), 2**30),
    "f64": st.floats() | st.integers(-(2**60), 2**60),
    "v128": st.binary(min_size=16, max_size=16),
}


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(list(SHAPES)).flatmap(
        lambda name: st.tuples(st.just(name), *(VALUES[each] for each in SHAPES[name].params))
    )
)
@pytest.mark.slow
def test_a_call_is_what_wasmtime_makes_of_it(both: Both, call: tuple[Any, ...]) -> None:
    name, *arguments = call
    expected = both.expected(name, arguments)
    for function in both.ways[name]:
        result = function(*arguments)
        assert same(result, expected), (SHAPES[name], arguments, result, expected)


def test_every_shape_is_called_once_at_least(both: Both) -> None:
    values = {"i32": -5, "i64": 2**40, "f32": 1.5, "f64": -0.1, "v128": bytes(range(16))}
    for name, type_ in SHAPES.items():
        arguments = [values[each] for each in type_.params]
        for function in both.ways[name]:
            assert same(function(*arguments), both.expected(name, arguments)), type_


# What is no number that fits, and what a result may look like

ODD = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "env" "back" (func $back (param i32) (result i32)))
  (import "env" "nobody" (func $nobody))
  (memory (export "memory") 1)
  (global $sp (export "__stack_pointer") (mut i32) (i32.const 4096))
  (func $push (global.set $sp (i32.sub (global.get $sp) (i32.const 64))))
  (func (export "i") (param i32) (result i32) local.get 0)
  (func (export "l") (param i64) (result i64) local.get 0)
  (func (export "f") (param f32) (result f32) local.get 0)
  (func (export "d") (param f64) (result f64) local.get 0)
  (func (export "ii") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
  (func (export "il") (param i32 i64) (result i64)
    (i64.sub (i64.extend_i32_s (local.get 0)) (local.get 1)))
  (func (export "id") (param i32 f64) (result f64) local.get 1)
  (func (export "none") (param i32))
  (func (export "v") (param v128) (result v128) local.get 0)
  (func (export "seven") (param i32 i32 i32 i32 i32 i32 i32) (result i32) local.get 6)
  (func (export "empty") (result i64) i64.const -9223372036854775807)
  (func (export "length") (param i32) (result i32) (local $n i32)
    (loop $next (if (i32.load8_u (i32.add (local.get 0) (local.get $n)))
      (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $next)))) local.get $n)
  (func (export "trap") (param i32) (result i32) call $push unreachable)
  (func (export "trap_float") (param f64) (result f64) call $push unreachable)
  (func (export "trap_nothing") call $push unreachable)
  (func (export "trap_float_nothing") (param f64) call $push unreachable)
  (func (export "exit") (param i32) (result i32) call $push (call $exit (local.get 0)) i32.const 0)
  (func (export "call") (param i32) (result i32) call $push (call $back (local.get 0)))
  (func (export "lost") (result i32) call $push call $nobody i32.const 1)
  (func (export "keep") (result i32) call $push i32.const 1))"""


class Odd:
    """A program of odd functions; ``back`` is what its guest calls."""

    def __init__(self) -> None:
        self.back: Callable[[int], int] = lambda number: number
        self.program = pylinker.Program(bytes(wasmtime.wat2wasm(ODD)), imports={"back": self._back})
        self.library = self.program.main

    def _back(self, number: int) -> int:
        return self.back(number)

    @property
    def stack(self) -> int | None:
        return self.program._linker.group.stack_top


@pytest.fixture
def odd() -> Iterator[Odd]:
    odd = Odd()
    with odd.program:
        yield odd


class Index:
    """A number by ``__index__`` alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:  # a part of test ids, which must be the same in every process
        return f"{type(self).__name__}({self.value})"


class Nothing:
    """An object that is no number."""

    def __repr__(self) -> str:
        return "Nothing()"


class Cut(Index):
    """One that says something else where it is cut."""

    def __int__(self) -> int:
        return self.value + 1


WRONG: list[tuple[str, tuple[Any, ...]]] = [
    *(("i", (value,)) for value in (2**32, -(2**31) - 1, 2**63, -(2**63) - 1, 10**30, SENTINEL)),
    *(("l", (value,)) for value in (2**64, -(2**63) - 1, 10**30)),
    *(("d", (value,)) for value in (10**400, "1", None, 1j, b"", [1.0])),
    *(("f", (value,)) for value in (10**400, "1", None, 1j)),
    *(("i", (value,)) for value in (1.5, 1.0, math.nan, None, 1j, [1], (1,), {}, Nothing(), int)),
    *(("l", (value,)) for value in (1.5, "1", b"1", None)),
    ("i", ("a\0b",)),
    ("ii", (1, 2**32)),
    ("ii", (2**32, 2**33)),
    ("ii", (2**32, "x\0")),
    ("ii", (2**32, 2**70)),
    ("ii", (2**70, 2**32)),
    ("il", (2**31, 2**64)),
    ("il", (2**32, 2**64)),
    ("il", (1, 1.0)),
    ("id", (1.0, 1.0)),
    ("id", (2**32, 1.0)),
    ("id", (1, "1")),
    ("none", (2**32,)),
    ("none", (None,)),
    *(
        ("v", (value,))
        for value in (b"", bytes(15), bytes(17), "0123456789abcdef", 0, bytearray(16))
    ),
    ("seven", (0, 0, 0, 0, 0, 0, 2**32)),
    ("seven", (0, 0, 0, 0, 0, 0, 0.5)),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG, ids=lambda value: repr(value)[:40])
def test_what_cannot_be_passed_is_the_same_error_both_ways(
    odd: Odd, name: str, arguments: tuple[Any, ...]
) -> None:
    function = odd.library[name]
    caught = []
    for _ in range(2):  # before the function was bound, and after
        for call in (function, function.bind()):
            with pytest.raises((TypeError, OverflowError, ValueError)) as one:
                call(*arguments)
            caught.append((type(one.value), str(one.value)))
    assert len(set(caught)) == 1
    kind, text = caught[0]
    assert kind is ValueError or text.startswith(f"{name}{function.type}, argument ")
    with pytest.raises(kind):
        function._call_slowly(arguments)


def test_an_error_names_the_argument(odd: Odd, way: Way) -> None:
    with pytest.raises(
        OverflowError, match=r"ii\(i32, i32\) -> i32, argument 2: 4294967296 does not fit into i32"
    ):
        way(odd.library["ii"])(1, 2**32)
    with pytest.raises(
        OverflowError, match=r"il\(i32, i64\) -> i64, argument 1: 4294967297 does not fit into i32"
    ):
        way(odd.library["il"])(2**32 + 1, 1)
    with pytest.raises(
        OverflowError, match=r"argument 2: 18446744073709551616 does not fit into i64"
    ):
        way(odd.library["il"])(1, 2**64)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("i", ()),
        ("i", (1, 2)),
        ("ii", (1,)),
        ("ii", (1, 2, 3)),
        ("empty", (1,)),
        ("d", ()),
        ("seven", (1,)),
    ],
)
def test_a_wrong_number_of_arguments_is_a_type_error(
    odd: Odd, way: Way, name: str, arguments: tuple[int, ...]
) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\W"):
        way(odd.library[name])(*arguments)
    with pytest.raises(TypeError):
        way(odd.library["i"])(a0=1)


@pytest.mark.parametrize(
    ("name", "argument", "result"),
    [
        ("i", True, 1),
        ("i", Index(7), 7),
        ("l", Index(2**64 - 1), -1),
        ("i", "four", "four"),
        ("i", b"\0four", b"\0four"),
        ("d", 3, 3.0),
        ("d", True, 1.0),
        ("d", decimal.Decimal("1.25"), 1.25),
        ("f", decimal.Decimal("1.25"), 1.25),
        ("d", 2**53 + 1, 9007199254740992.0),
        ("f", 1e300, math.inf),
        ("f", 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("f", -0.0, -0.0),
        ("d", -math.inf, -math.inf),
    ],
    ids=repr,
)
def test_what_is_taken_for_a_number(
    odd: Odd, way: Way, name: str, argument: Any, result: Any
) -> None:
    call = way(odd.library[name])
    if isinstance(result, (str, bytes)):
        assert way(odd.library["length"])(result) == len(
            result.split("\0" if isinstance(result, str) else b"\0")[0]
        )
        assert call(argument) > 0
    else:
        assert same(call(argument), result)


def test_what_has_int_is_refused_by_the_function_and_cut_by_the_bound_one(odd: Odd) -> None:
    """As the docstring of bind says."""
    function = odd.library["i"]
    for _ in range(2):
        assert function(Cut(5)) == 5
        with pytest.raises(TypeError):
            function(decimal.Decimal("1.5"))
        bound = function.bind()
        assert bound(Cut(5)) == 6
        assert bound(decimal.Decimal("1.5")) == 1


@pytest.mark.parametrize("before", ["i", "trap", "trap_float"])
def test_a_result_that_looks_like_a_failure_is_a_result(odd: Odd, way: Way, before: str) -> None:
    """After any outcome of the call before."""
    attempt = way(odd.library[before])
    for function, value in (
        (odd.library["empty"], SENTINEL),
        (odd.library["l"], SENTINEL),
        (odd.library["d"], math.nan),
        (odd.library["f"], math.nan),
        (odd.library["d"], -sys.float_info.max),
    ):
        if before == "i":
            attempt(1)
        else:
            with pytest.raises(wasmtime.Trap):
                attempt(1)
        assert same(way(function)(*([] if function.name == "empty" else [value])), value)


class TestFailures:
    @pytest.mark.parametrize("name", ["trap", "trap_float", "trap_nothing", "trap_float_nothing"])
    def test_a_trap_comes_out_and_the_stack_pointer_is_as_before(
        self, odd: Odd, way: Way, name: str
    ) -> None:
        call = way(odd.library[name])
        arguments = (1,) if name != "trap_nothing" else ()
        for _ in range(3):
            with pytest.raises(wasmtime.Trap, match="unreachable") as caught:
                call(*arguments)
            assert type(caught.value) is wasmtime.Trap
            assert odd.stack == 4096
        assert way(odd.library["i"])(3) == 3

    @pytest.mark.parametrize("status", [0, 1, 200])
    def test_an_exit_comes_out(self, odd: Odd, way: Way, status: int) -> None:
        call = way(odd.library["exit"])
        for _ in range(2):
            with pytest.raises(wasmtime.ExitTrap) as caught:
                call(status)
            assert caught.value.code == status
            assert odd.stack == 4096

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("mine"),
            TypeError("mine"),
            OverflowError("mine"),
            KeyboardInterrupt("mine"),
            SystemExit(3),
        ],
    )
    def test_what_a_host_function_raised_comes_out_as_it_is(
        self, odd: Odd, way: Way, error: BaseException
    ) -> None:
        def fail(_number: int) -> int:
            raise error

        call = way(odd.library["call"])
        assert call(4) == 4
        odd.back = fail
        top = odd.stack
        for _ in range(2):
            error.__cause__ = None
            with pytest.raises(type(error)) as caught:
                call(4)
            assert caught.value is error
            assert isinstance(error.__cause__, wasmtime.Trap)
            assert odd.stack == top
        odd.back = abs
        assert call(-4) == 4

    def test_a_function_that_nobody_defines_is_named(self, odd: Odd, way: Way) -> None:
        call = way(odd.library["lost"])
        for _ in range(2):
            with pytest.raises(pylinker.UndefinedSymbolError, match="nobody"):
                call()
            assert odd.stack == 4096

    def test_a_guest_that_leaves_something_on_its_stack_keeps_it(self, odd: Odd, way: Way) -> None:
        call = way(odd.library["keep"])
        assert call() == call() == 1
        assert odd.stack == 4096 - 128
