"""``pylinker nm`` and ``pylinker graph``; and the bar that shows long compilations."""

from __future__ import annotations

import itertools
import json
import os
import pty
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import pylinker
from pylinker.cli import drawing
from test_cli import DEADLINE, PIC, cli, fails, write
from toolchain import Scenario, wasm_tools

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"

SYMBOLS = f"""(module
  (@dylink.0 (mem-info (memory 16 2))
    (export-info "weak_one" binding-weak) (export-info "per_thread" tls)
    (import-info "env" "maybe" binding-weak undefined))
  {PIC}
  (import "env" "absent" (func (param i32)))
  (import "env" "maybe" (func))
  (import "GOT.mem" "counter" (global (mut i32)))
  (import "GOT.func" "handler" (global (mut i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
  (global (export "data") i32 (i32.const 8))
  (global (export "per_thread") i32 (i32.const 4))
  (tag (export "thrown") (param i32))
  (func (export "plain") (result i32) (i32.const 1))
  (func (export "weak_one"))
  (export "again" (func 0)))"""


def test_nm(tmp_path: Path) -> None:
    file = tmp_path / "lib.so"
    (tmp_path / "lib.wat").write_text(SYMBOLS)
    wasm_tools("parse", tmp_path / "lib.wat", "-o", file)
    done = cli("nm", "--json", file, cwd=tmp_path)
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["symbols"]
    by_name = {each["name"]: each for each in symbols}

    def shown(name: str) -> tuple[object, ...]:
        each = by_name[name]
        return (
            each["letter"],
            each["kind"],
            each["defined"],
            each["weak"],
            each["value"],
            each["size"],
        )

    assert shown("absent") == ("U", "function", False, False, None, None)
    assert shown("maybe") == ("w", "function", False, True, None, None)
    assert shown("counter") == ("U", "data", False, False, None, None)
    assert shown("handler") == ("U", "function pointer", False, False, None, None)
    assert shown("data") == ("D", "data", True, False, 8, None)
    assert shown("per_thread") == ("L", "thread-local data", True, False, 4, None)
    assert shown("thrown") == ("E", "tag", True, False, None, None)
    assert shown("plain") == ("T", "function", True, False, 3, 4)  # no locals, i32.const 1, end
    assert shown("weak_one") == ("W", "function", True, True, 4, 2)
    assert shown("again") == (
        "T",
        "function",
        True,
        False,
        0,
        None,
    )  # an import: its body is elsewhere
    text = cli("nm", file, cwd=tmp_path).stdout.splitlines()
    assert ["00000008", "D", "data", "data", "i32"] in [line.split() for line in text]
    assert ["00000003", "4", "T", "plain", "function", "()", "->", "i32"] in [
        line.split() for line in text
    ]
    assert any("wasi_snapshot_preview1.sched_yield" in line for line in text)


def test_nm_of_one_kind_only(tmp_path: Path) -> None:
    lib = write(
        tmp_path / "lib.so", f'(module {PIC} (import "env" "absent" (func)) (func (export "f")))'
    )
    assert " absent " not in cli("nm", "-U", lib, cwd=tmp_path).stdout
    assert " f " not in cli("nm", "-u", lib, cwd=tmp_path).stdout
    (tmp_path / "bad.so").write_bytes(
        b"\0asm\1\0\0\0\x0a\x03\x01\x7f\0"
    )  # a body longer than the file
    fails(cli("nm", "bad.so", cwd=tmp_path), 127, "bad.so")


def boxes_of(svg: str) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of every box of a well-formed document in which no boxes overlap."""
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    nodes = [
        group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g") if group.get("class") == "node"
    ]
    boxes = [
        tuple(float(node.get(key, "")) for key in ("x", "y", "width", "height"))
        for node in nodes
        if node is not None
    ]
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in itertools.combinations(boxes, 2):
        assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert all(x >= 0 and x + w <= width and y >= 0 and y + h <= height for x, y, w, h in boxes)
    return boxes  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(6))
def test_thirty_libraries(seed: int) -> None:
    """Any graph of thirty nodes: with cycles, mutual edges, and separate components."""
    chance = random.Random(seed)
    names = ["main.wasm", *(f"lib{'x' * chance.randrange(20)}{number}.so" for number in range(30))]
    pairs = {(a, b) for a, b in (chance.sample(names, 2) for _ in range(10 + 12 * seed))}
    boxes = [
        drawing.Box(
            name, (name, "14 from pylinker")[: 1 + number % 2], "main" if not number else ""
        )
        for number, name in enumerate(names)
    ]
    lines = [
        drawing.Line(a, b, str(number % 100 or ""), f"{a} to {b}", needed=number % 3 == 0)
        for number, (a, b) in enumerate(sorted(pairs))
    ]
    svg = drawing.draw(boxes, lines)
    assert len(boxes_of(svg)) == 31
    assert svg.count("<polyline") == len(pairs)


@pytest.mark.slow
def test_many_real_libraries(scenario: Scenario, tmp_path: Path) -> None:
    done = cli("graph", scenario("many") / "main.wasm", "-o", "many.svg", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    svg = (tmp_path / "many.svg").read_text()
    assert len(boxes_of(svg)) == 21
    titles = [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]
    assert any(re.match(r"liblink20\.so needs liblink19\.so: \w+", title) for title in titles)


def test_what_a_graph_shows(tmp_path: Path) -> None:
    write(
        tmp_path / "libone.so",
        f'(module (@dylink.0 (mem-info (memory 0 0))) {PIC} (func (export "a")) '
        f'(func (export "b")))',
    )
    names = '(needed "libone.so") (needed "libtwo.so") (needed "libgone<.so")'
    write(tmp_path / "libtwo.so", "(module (@dylink.0 (mem-info (memory 0 0))))")
    imports = "".join(f'(import "env" "{name}" (func))' for name in "abc")
    user = write(
        tmp_path / "user.so",
        f"(module (@dylink.0 (mem-info (memory 0 0)) {names}) {imports} {PIC})",
    )
    dot = cli("graph", user, "--format", "dot", cwd=tmp_path)
    assert dot.returncode == 0
    lines = [line.strip() for line in dot.stdout.splitlines()]
    assert '"user.so" [label="user.so\\n1 undefined or mismatched", color=red];' in lines
    assert (
        '"user.so" -> "libone.so" [label="2", tooltip="user.so needs libone.so: a, b", '
        "style=solid];" in lines
    )
    assert (
        '"user.so" -> "libtwo.so" [label="", tooltip="user.so needs libtwo.so", style=dashed];'
        in lines
    )
    assert '"libgone<.so" [label="libgone<.so\\nmissing", color=red];' in lines
    cli("graph", user, "-o", "out.dot", cwd=tmp_path)
    assert (tmp_path / "out.dot").read_text() == dot.stdout
    assert len(boxes_of(cli("graph", user, cwd=tmp_path).stdout)) == 4


class TestProgress:
    SOURCE = (
        f"(module (@dylink.0 (mem-info (memory 0 0))) {PIC} "
        f'(func (export "f") (result i32) (i32.const 1)))'
    )

    def test_a_callback_is_told_before_and_after(self, tmp_path: Path) -> None:
        lib = write(tmp_path / "lib.so", self.SOURCE)
        told: list[pylinker.Compiling] = []
        with pylinker.CDLL(lib, cache=tmp_path / "cache", progress=told.append) as library:
            assert library.f() == 1
        size = lib.stat().st_size
        assert [each for each in told if each.name == "lib.so"] == [
            ("lib.so", size, False),
            ("lib.so", size, True),
        ]
        told.clear()
        pylinker.CDLL(lib, cache=tmp_path / "cache", progress=told.append).close()
        assert told == []  # it was in the cache

    def test_what_a_callback_raises_comes_out(self, tmp_path: Path) -> None:
        lib = write(tmp_path / "lib.so", self.SOURCE)

        def stop(_what: pylinker.Compiling) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pylinker.CDLL(lib, cache=False, progress=stop)

    def test_a_bar_is_on_a_terminal_and_nowhere_else(self, tmp_path: Path) -> None:
        body = "(drop (i32.add (i32.const 100000) (i32.const 200000)))" * 100
        functions = f"(func {body})" * 1200
        lib = write(
            tmp_path / "lib.so",
            f"(module (@dylink.0 (mem-info (memory 0 0))) {PIC} "
            f'(func (export "f") (result i32) (i32.const 7)) {functions})',
        )
        assert lib.stat().st_size > 1 << 20
        done = cli("run", "--invoke", "f", lib, cwd=tmp_path, PYLINKER_CACHE="")
        assert (done.stdout, done.stderr) == ("7\n", "")
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "pylinker", "run", "--invoke", "f", str(lib)]
        env = {**os.environ, "PYLINKER_CACHE": "", "TERM": "xterm", "COLUMNS": "100"}
        with subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=theirs
        ) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    part = os.read(ours, 4096)
                except OSError:  # Linux: the other side is closed
                    break
                if not part:
                    break
                shown += part
            output, _ = process.communicate(timeout=DEADLINE)
        os.close(ours)
        assert output == b"7\n"
        assert b"compiling lib.so, " in shown
