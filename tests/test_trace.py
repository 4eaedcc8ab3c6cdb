"""Traces: what the threads of a program did, in a file for Perfetto."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

import pylinker
from guests import COMPUTE, NAP, YIELD, Guest, orderly
from pylinker import demo
from pylinker.native.enums import TraceKind
from pylinker.native.member import Member
from pylinker.native.shared import Shared
from pylinker.native.trace import Trace
from test_cli import LIBRARY, PIC, cli, fails, write
from toolchain import Scenario

Span = dict[str, Any]


def read(path: Path) -> tuple[dict[str, list[Span]], dict[str, Any]]:
    """The spans of each row by name, and the document, after the checks of every trace."""
    document = json.loads(path.read_text())
    names: dict[int, str] = {}
    rows: dict[int, list[Span]] = defaultdict(list)
    for event in document["traceEvents"]:
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                names[event["tid"]] = event["args"]["name"]
        else:
            assert event["ph"] == "X"
            assert {"pid", "tid", "ts", "dur", "name"} <= event.keys()
            rows[event["tid"]].append(event)
    assert rows.keys() <= names.keys()
    for spans in rows.values():
        open_: list[float] = []
        for span in sorted(spans, key=lambda each: (each["ts"], -each["dur"])):
            begin, end = round(1000 * span["ts"]), round(1000 * (span["ts"] + span["dur"]))
            while open_ and open_[-1] <= begin:
                open_.pop()
            assert not open_ or end <= open_[-1], span  # they nest
            open_.append(end)
    assert len(set(names.values())) == len(names)
    return {names[tid]: spans for tid, spans in rows.items()}, document


def inside(outer: Span, inner: Span) -> bool:
    return bool(
        outer["ts"] <= inner["ts"]
        and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 0.001
    )


def test_a_program_from_its_start_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with pylinker.Program(demo.MAIN, stdout=pylinker.CAPTURE, cache=False, trace=file) as program:
        assert program.run() == 0
    rows, document = read(file)
    assert list(rows) == ["main thread"]
    assert document["otherData"]["lost"] == 0
    spans = rows["main thread"]
    counts = Counter(each["name"] for each in spans)
    assert counts["start"] == 1
    assert counts["dlopen"] == 1
    for name in ("find", "resolve", "link", "instantiate", "relocations", "constructors", "guest"):
        assert counts[name] >= 1, name
    start = next(each for each in spans if each["name"] == "start")
    opened = next(each for each in spans if each["name"] == "dlopen")
    assert opened["args"] == {"library": "libplugin.so"}
    assert opened["ts"] > start["ts"] + start["dur"]
    constructed = [each["args"]["module"] for each in spans if each["name"] == "constructors"]
    assert constructed == ["libgreet.so", "libplugin.so"]
    assert inside(opened, [each for each in spans if each["name"] == "constructors"][1])


def test_a_rendezvous_shows_who_was_waited_for(scenario: Scenario, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with orderly(), Guest(scenario("threads"), trace=file) as guest:
        threads = guest.start(YIELD)
        guest.program.dlopen("libtwice.so")
        guest.join(threads)
        name = f"thread {threads[0].tid}"
    rows, _ = read(file)
    assert set(rows) == {"main thread", name}
    opened = next(each for each in rows["main thread"] if each["name"] == "dlopen")
    (met,) = [
        each
        for each in rows["main thread"]
        if each["name"] == "rendezvous" and inside(opened, each)
    ]
    waits = [
        each
        for each in rows["main thread"]
        if each["name"] == f"wait for {name}" and inside(met, each)
    ]
    assert [each["args"]["thread"] for each in waits] == [name] * len(waits)
    assert [each["args"]["found"] for each in waits] in (["came", "replayed"], ["parked"])
    replay = next(each for each in rows[name] if each["name"] == "replay")
    assert replay["args"] == {"operations": 1}
    assert any(each["name"] == "follow" and inside(each, replay) for each in rows[name])


def test_a_thread_that_waits_is_parked(scenario: Scenario, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with orderly(), Guest(scenario("threads"), trace=file) as guest:
        threads = guest.start(NAP, COMPUTE)
        guest.join(threads)
    rows, _ = read(file)
    assert set(rows) == {"main thread", *(f"thread {each.tid}" for each in threads)}
    assert all(any(each["name"] == "guest" for each in spans) for spans in rows.values())
    assert any(
        each["name"] == "parked" and each["dur"] >= 500 for each in rows[f"thread {threads[0].tid}"]
    )


def test_a_load_that_fails_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    library = write(
        tmp_path / "libbad.so",
        f"(module (@dylink.0 (mem-info (memory 0 0))) {PIC} "
        f'(func (export "_initialize") unreachable))',
    )
    program = pylinker.Program(demo.MAIN, stdout=pylinker.DEVNULL, trace=file)
    with program, pytest.raises(pylinker.InitializationError):
        program.dlopen(str(library))
    spans = read(file)[0]["main thread"]
    assert {
        each["name"]: each["args"].get("error") for each in spans if "error" in each["args"]
    } == {
        "dlopen": "InitializationError",
        "constructors": "InitializationError",
    }
    needs = write(
        tmp_path / "libneeds.so",
        '(module (@dylink.0 (mem-info (memory 0 0)) (needed "libnone.so")))',
    )
    with pytest.raises(pylinker.LibraryNotFoundError):
        pylinker.Program(preload=[str(needs)], trace=file)
    assert any(each["name"] == "start" for each in read(file)[0]["main thread"])


def test_nothing_is_noted_without_a_trace(scenario: Scenario) -> None:
    with orderly(), Guest(scenario("threads")) as guest:
        assert type(guest.program._linker).__name__ == "Linker"
        assert type(guest.program._linker.group).__name__ == "InstanceGroup"


def test_what_finds_no_room_is_counted() -> None:
    trace = Trace(3)
    shared = Shared()
    shared.set_trace(trace)
    members = [Member(shared) for _ in range(5)]
    for member in members:
        member.join()
        member.die()
    assert [(kind, group) for _, kind, group, _ in trace.events()] == [
        (TraceKind.DEAD, each.handle) for each in members[:3]
    ]
    assert trace.lost == 2
    del shared, trace  # the groups keep it
    for member in members:
        member.free()


def test_a_file_that_cannot_be_written_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pylinker.Program(demo.MAIN, trace=tmp_path / "none" / "trace.json")


def test_on_the_command_line(tmp_path: Path) -> None:
    lib = write(tmp_path / "lib.so", LIBRARY)
    done = cli("run", "--trace", "out.json", "--invoke", "sum", lib, "1", "2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert any(each["name"] == "compile" for each in read(tmp_path / "out.json")[0]["main thread"])
    fails(cli("run", "--trace", "none/out.json", lib, cwd=tmp_path), 127, "none/out.json")
