"""What the linker tells of its work, through ``logging``; and what it counts."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylinker
from guests import YIELD, Guest, orderly
from pylinker import demo
from pylinker.api.debug import CATEGORIES
from test_cli import PIC, cli, fails, write
from toolchain import Scenario


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Put the loggers back as they were."""
    root = logging.getLogger("pylinker")
    before = list(root.handlers)
    yield
    root.handlers[:] = before
    for name in CATEGORIES:
        logging.getLogger(f"pylinker.{name}").setLevel(logging.NOTSET)


def told(categories: str) -> list[str]:
    """The log of a run of the shipped program, without the process's number."""
    stream = io.StringIO()
    pylinker.debug(categories, stream=stream)
    with pylinker.Program(demo.MAIN, stdout=pylinker.CAPTURE) as program:
        program.run()
    return [line.partition("\t")[2] for line in stream.getvalue().splitlines()]


def test_libraries() -> None:
    lines = told("libs")
    assert {line.partition(":")[0] for line in lines} == {"pylinker.libs"}
    assert "pylinker.libs: find library=libgreet.so [needed by main.wasm]; searching" in lines
    assert f"pylinker.libs:   found file={demo.DIRECTORY / 'libgreet.so'}" in lines
    assert any(
        line.startswith(
            f"pylinker.libs: load libplugin.so [{demo.DIRECTORY / 'libplugin.so'}]: memory 0x"
        )
        for line in lines
    )
    assert "pylinker.libs: calling __wasm_call_ctors of libgreet.so" in lines


def test_symbols_and_bindings() -> None:
    lines = told("symbols,bindings")
    assert {line.partition(":")[0] for line in lines} == {"pylinker.symbols", "pylinker.bindings"}
    searched = [line for line in lines if "symbol=greet [main.wasm]" in line]
    assert searched == [
        f"pylinker.symbols: symbol=greet [main.wasm]; lookup in {name}"
        for name in ("main.wasm", "libgreet.so")
    ]
    assert "pylinker.symbols: symbol=dlopen [main.wasm]; undefined" in lines
    assert "pylinker.bindings: binding main.wasm to libgreet.so: greetings [data]" in lines
    assert "pylinker.bindings: binding libgreet.so to main.wasm: printf [function]" in lines


def test_a_call_that_is_bound_late(tmp_path: Path) -> None:
    stream = io.StringIO()
    pylinker.debug("bindings", stream=stream)
    user = f'{PIC} (import "env" "late" (func $late)) (func (export "call") (call $late))'
    library = write(tmp_path / "user.so", f"(module (@dylink.0 (mem-info (memory 0 0))) {user})")
    provider = write(
        tmp_path / "late.so",
        f'(module (@dylink.0 (mem-info (memory 0 0))) {PIC} (func (export "late")))',
    )
    with pylinker.CDLL(library) as opened:
        assert stream.getvalue().endswith(
            "pylinker.bindings: binding user.so to no module: late [function]\n"
        )
        opened.program.dlopen(str(provider), pylinker.RTLD_GLOBAL)
        opened.call()
        opened.call()
    told = [line for line in stream.getvalue().splitlines() if "late.so" in line]
    assert [line.partition("\t")[2] for line in told] == [
        "pylinker.bindings: binding user.so to late.so: late [function, first call]"
    ]


def test_a_search_tells_why_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without ``debug``: setting the level of a logger yields its records."""
    caplog.set_level(logging.DEBUG, logger="pylinker.libs")
    with pytest.raises(pylinker.LibraryNotFoundError):
        pylinker.CDLL("libnone.so", library_path=[tmp_path])
    assert f"  trying file={tmp_path}/libnone.so: no such file" in caplog.messages
    assert caplog.messages[-1] == "  not found"


def test_synchronization_and_statistics(scenario: Scenario) -> None:
    stream = io.StringIO()
    pylinker.debug(["sync", "stats"], stream=stream)
    with orderly(), Guest(scenario("threads")) as guest:
        threads = guest.start(YIELD)
        guest.program.dlopen("libtwice.so")
        guest.join(threads)
    text = stream.getvalue()
    for words in (
        "joins, as one of 2",
        "barrier 1 is up: LoadModules(libtwice.so",
        "operation 1 is done",
        "leaves, 1 are left",
    ):
        assert f"pylinker.sync: group {words}" in text or words in text
    assert "pylinker.stats: main.wasm: modules: 2\n" in text
    assert "pylinker.stats: main.wasm: memory_map: start=" in text


def test_names_cannot_upset_a_terminal(tmp_path: Path) -> None:
    stream = io.StringIO()
    pylinker.debug("all", stream=stream)
    library = write(
        tmp_path / "lib.so",
        f"(module (@dylink.0 (mem-info (memory 0 0))) "
        f'(import "env" "a\\1b[31m\\0ab" (func)) {PIC})',
    )
    pylinker.CDLL(library).close()
    assert "a\\x1b[31m\\nb" in stream.getvalue() or "\\x1b[31m" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_categories_are_checked() -> None:
    with pytest.raises(ValueError, match="'nosuch'"):
        pylinker.debug("libs,nosuch")
    assert not logging.getLogger("pylinker.libs").isEnabledFor(logging.DEBUG)


@pytest.mark.slow
class TestCommandLine:
    def test_debug(self, tmp_path: Path) -> None:
        done = cli("run", "--debug=libs,bindings", demo.MAIN, cwd=tmp_path)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "hello, world")
        assert {line.split("\t")[1].partition(":")[0] for line in done.stderr.splitlines()} == {
            "pylinker.libs",
            "pylinker.bindings",
        }

    def test_all(self, tmp_path: Path) -> None:
        done = cli("run", "--debug=all", demo.MAIN, cwd=tmp_path)
        assert {line.split("\t")[1].partition(":")[0] for line in done.stderr.splitlines()} == {
            f"pylinker.{each}" for each in CATEGORIES
        }

    def test_help_needs_no_program(self, tmp_path: Path) -> None:
        done = cli("run", "--debug=help", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split()[0] for line in done.stdout.splitlines()] == [
            *CATEGORIES,
            "all",
            "help",
        ]

    def test_wrong_category(self, tmp_path: Path) -> None:
        fails(cli("run", "--debug=nosuch", demo.MAIN, cwd=tmp_path), 2, "--debug", "'nosuch'")

    def test_environment(self, tmp_path: Path) -> None:
        done = cli("run", demo.MAIN, cwd=tmp_path, PYLINKER_DEBUG="libs")
        assert done.returncode == 0
        assert "pylinker.libs: find library=libgreet.so" in done.stderr
        done = cli("run", demo.MAIN, cwd=tmp_path, PYLINKER_DEBUG="nosuch")
        assert done.returncode == 0
        assert done.stderr.startswith(
            "pylinker: PYLINKER_DEBUG: there is no debug category 'nosuch'"
        )
        assert cli("run", demo.MAIN, cwd=tmp_path).stderr == ""


class TestStatistics:
    def test_maps(self) -> None:
        with pylinker.Program(demo.MAIN, stdout=pylinker.CAPTURE) as program:
            program.run()
            seen = program.statistics()
            data = {
                each.owner: (each.start, each.size)
                for each in seen.memory_map
                if each.use == "data"
            }
            assert data == {
                each.name: (each.memory_base, each.memory_size)
                for each in program.libraries
                if each.memory_size
            }
            assert [each.owner for each in seen.memory_map if each.use == "stack"] == [
                "main thread"
            ]
            assert seen.memory_map == tuple(
                sorted(seen.memory_map, key=lambda each: (each.start, -each.size))
            )
            slots = [
                slot
                for each in seen.table_map
                for slot in range(each.start, each.start + each.size)
            ]
            assert len(slots) == len(set(slots)) == seen.table_used
            slot = program.main["greet"].slot
            assert any(
                each.start <= slot < each.start + each.size and each.owner == "libgreet.so"
                for each in seen.table_map
            )
            assert (seen.trampolines, seen.trampolines_bound, seen.resolver_entries) == (1, 1, 1)
            assert (seen.operations, seen.waits) == (0, pylinker.Waits(0, 0, 0.0, 0.0))
            assert seen.threads == (pylinker.GroupSummary(0, "parked", 0, 1),)
            with pytest.raises(dataclasses.FrozenInstanceError):
                seen.modules = 0  # type: ignore[misc]

    def test_threads_and_waits(self, scenario: Scenario) -> None:
        with orderly(), Guest(scenario("threads")) as guest:
            threads = guest.start(YIELD, YIELD)
            before = guest.program.statistics()
            assert [(each.thread, each.replayed) for each in before.threads] == [
                (0, 0),
                (threads[0].tid, 0),
                (threads[1].tid, 0),
            ]
            guest.program.dlopen("libplain2.so")
            after = guest.program.statistics()
            assert (after.operations, after.waits.rendezvous) == (
                before.operations + 1,
                before.waits.rendezvous + 1,
            )
            assert after.waits.seconds >= after.waits.longest > 0
            assert {each.replayed for each in after.threads} <= {0, 1}
            blocks = [each for each in after.memory_map if each.use == "thread-local"]
            assert {each.owner for each in blocks} == {
                f"main.wasm, thread {each.tid}" for each in threads
            }
            stacks = {each.owner for each in after.memory_map if each.use == "stack"}
            assert stacks == {"main thread", *(f"thread {each.tid}" for each in threads)}
            guest.join(threads)
        assert before.modules == 1  # a snapshot stays as it was
