"""The command line, as a process: what goes to stdout and stderr, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import wasmtime

from pylinker import demo

DEADLINE = 60  # seconds; only a hang takes that long

PIC = """
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global i32))
  (import "env" "__table_base" (global i32))
"""

# Writes its arguments, its environment and its first directory's name to stdout, each ended by a
# NUL, and exits with 42.
TELL = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $say (param $text i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (drop (call $args_sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    (call $say (i32.const 4096) (i32.load (i32.const 20)))
    (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
    (drop (call $environ (i32.const 1024) (i32.const 4096)))
    (call $say (i32.const 4096) (i32.load (i32.const 20)))
    (if (i32.eqz (call $directory (i32.const 3) (i32.const 4096) (i32.const 5)))
      (then (call $say (i32.const 4096) (i32.const 6))))
    (call $exit (i32.const 42))))"""

LIBRARY = f"""(module $lib.so (@dylink.0 (mem-info (memory 0 0))) {PIC}
  (import "env" "absent" (func $absent))
  (func (export "sum") (param i32 i64) (result i64)
    (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
  (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "pair") (result i32 i32) (i32.const 1) (i32.const -2))
  (func (export "nothing"))
  (func (export "crash") unreachable)
  (func (export "call_absent") (call $absent)))"""


def cli(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pylinker in ``cwd`` with these arguments and additional environment variables.

    Never in the repository's root: Python would find the sources there before the installed
    package.
    """
    command = [sys.executable, "-m", "pylinker", *map(str, arguments)]
    env = {**os.environ, "PYLINKER_CACHE": str(cwd / "cache"), **environment}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def fails(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """Assert that a command failed with this status and one line that contains all ``words``."""
    assert (result.returncode, result.stderr.count("\n")) == (status, 1), result
    assert result.stderr.startswith("pylinker: ")
    for word in words:
        assert word in result.stderr


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def library(path: Path, *needed: str, body: str = "") -> Path:
    names = " ".join(f'(needed "{name}")' for name in needed)
    return write(path, f"(module (@dylink.0 (mem-info (memory 0 0)) {names}) {body})")


@pytest.fixture
def tell(tmp_path: Path) -> Path:
    return write(tmp_path / "tell.wasm", TELL)


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    return write(tmp_path / "lib.so", LIBRARY)


class TestRun:
    def test_status_and_arguments_pass_through(self, tmp_path: Path, tell: Path) -> None:
        result = cli("run", tell, "--env", "-L", "--", "--help", "", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (42, "")
        assert result.stdout.split("\0")[1:-1] == ["--env", "-L", "--", "--help", ""]

    def test_environment_is_what_was_given(self, tmp_path: Path, tell: Path) -> None:
        result = cli(
            "run",
            "--env",
            "A=1=2",
            "--env",
            "HERE",
            "--env",
            "EMPTY=",
            tell,
            cwd=tmp_path,
            HERE="yes",
            OTHER="no",
        )
        assert result.stdout.split("\0")[1:-1] == ["A=1=2", "HERE=yes", "EMPTY="]

    @pytest.mark.parametrize(("given", "guest"), [("data", "data"), ("data::/here", "/here")])
    def test_directory(self, tmp_path: Path, tell: Path, given: str, guest: str) -> None:
        (tmp_path / "data").mkdir()
        result = cli("run", "--dir", given, tell, cwd=tmp_path)
        assert result.stdout.split("\0")[1].startswith(guest)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--env", "NOT_SET_ANYWHERE"], ["--env", "NOT_SET_ANYWHERE"]),
            (["--env", "=x"], ["--env"]),
            (["--dir", "nowhere"], ["--dir", "nowhere"]),
            (["--stack-size", "0"], ["--stack-size"]),
            (["--wrong"], ["--wrong"]),
        ],
    )
    def test_wrong_usage(
        self, tmp_path: Path, tell: Path, arguments: list[str], words: list[str]
    ) -> None:
        fails(cli("run", *arguments, tell, cwd=tmp_path), 2, *words)

    def test_libraries_are_found_beside_the_program_or_where_told(self, tmp_path: Path) -> None:
        assert cli("run", demo.MAIN, "you", cwd=tmp_path).stdout.startswith("hello, you\n")
        main = tmp_path / "main.wasm"
        main.write_bytes(demo.MAIN.read_bytes())
        fails(cli("run", main, cwd=tmp_path), 127, "libgreet.so", "main.wasm")
        assert (
            cli("run", "-L", demo.DIRECTORY, "--stack-size", "65536", main, cwd=tmp_path).returncode
            == 0
        )

    def test_preloaded_symbols_win(self, tmp_path: Path) -> None:
        first = write(
            tmp_path / "first.so",
            f"(module $first (@dylink.0 (mem-info (memory 0 0))) {PIC} "
            f'(func (export "greet") (param i32) unreachable))',
        )
        fails(cli("run", "--preload", first, demo.MAIN, cwd=tmp_path), 134, "in first!")

    @pytest.mark.parametrize(
        ("function", "arguments", "printed"),
        [
            ("sum", ["-1", "0x10"], "15\n"),
            ("half", ["3"], "1.5\n"),
            ("pair", [], "1\n-2\n"),
            ("nothing", [], ""),
        ],
    )
    def test_invoke(
        self, tmp_path: Path, lib: Path, function: str, arguments: list[str], printed: str
    ) -> None:
        result = cli("run", "--invoke", function, lib, *arguments, cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (0, printed, "")

    @pytest.mark.parametrize(
        "arguments", [["1"], ["1", "2", "3"], ["1", "two"], ["1.5", "2"], [str(1 << 32), "1"]]
    )
    def test_invoke_with_wrong_arguments(
        self, tmp_path: Path, lib: Path, arguments: list[str]
    ) -> None:
        fails(
            cli("run", "--invoke", "sum", lib, *arguments, cwd=tmp_path),
            2,
            "sum",
            "(i32, i64) -> i64",
        )

    def test_invoke_what_is_not_there(self, tmp_path: Path, lib: Path) -> None:
        fails(cli("run", "--invoke", "absent", lib, cwd=tmp_path), 127, "absent")

    def test_trap(self, tmp_path: Path, lib: Path) -> None:
        fails(cli("run", "--invoke", "crash", lib, cwd=tmp_path), 134, "unreachable", "lib.so")

    def test_undefined_function(self, tmp_path: Path, lib: Path) -> None:
        fails(cli("run", "--invoke", "call_absent", lib, cwd=tmp_path), 127, "absent")
        fails(cli("run", "--bind-now", "--invoke", "nothing", lib, cwd=tmp_path), 127, "absent")
        assert cli("run", "--invoke", "nothing", lib, cwd=tmp_path).returncode == 0

    def test_missing_and_malformed_programs(self, tmp_path: Path) -> None:
        fails(cli("run", "nowhere.wasm", cwd=tmp_path), 127, "nowhere.wasm")
        (tmp_path / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\xff")
        fails(cli("run", "bad.wasm", cwd=tmp_path), 127, "bad.wasm")

    def test_ctrl_c_ends_a_program_that_computes(self, tmp_path: Path) -> None:
        main = write(
            tmp_path / "loop.wasm",
            """(module
              (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
              (memory (export "memory") 1)
              (data (i32.const 0) "\\08\\00\\00\\00\\01\\00\\00\\00!")
              (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                (loop (br 0))))""",
        )
        command = [sys.executable, "-m", "pylinker", "run", str(main)]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            assert process.stdout.read(1) == b"!"  # it runs
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 130
            assert process.stderr.read() == b""


@pytest.mark.slow
class TestInspect:
    def test_the_demo(self, tmp_path: Path) -> None:
        shown = json.loads(
            cli("inspect", "--json", demo.DIRECTORY / "libplugin.so", cwd=tmp_path).stdout
        )
        assert shown["kind"] == "shared library"
        assert shown["dylink"]["needed"] == ["libgreet.so"]
        assert {
            "name": "plugin_sort",
            "kind": "function",
            "type": "(i32, i32) -> ()",
            "flags": [],
        } in shown["exports"]
        text = cli("inspect", demo.DIRECTORY / "libplugin.so", cwd=tmp_path).stdout
        for word in ("shared library", "libgreet.so", "plugin_sort", "(i32, i32) -> ()"):
            assert word in text

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("(module)", "module without dynamic linking information"),
            ('(module (func (export "_start")))', "static program"),
            (
                """(module (func (export "_start")) (memory (export "memory") 1)
                   (table (export "__indirect_function_table") 1 funcref)
                   (global (export "__stack_pointer") (mut i32) (i32.const 0)))""",
                "program that can load libraries",
            ),
            ("(module (@dylink.0 (mem-info (memory 0 0))))", "shared library"),
            (
                (
                    "(module (@dylink.0 (mem-info (memory 0 0))) "
                    '(import "env" "memory" (memory 1)) (func (export "_start")))'
                ),
                "position-independent program, imports its memory",
            ),
            (
                (
                    '(module (@dylink.0 (mem-info (memory 0 0))) (memory (export "memory") 1) '
                    '(func (export "_start")))'
                ),
                "position-independent program, defines its memory",
            ),
        ],
    )
    def test_kind(self, tmp_path: Path, text: str, kind: str) -> None:
        shown = json.loads(
            cli("inspect", "--json", write(tmp_path / "x.wasm", text), cwd=tmp_path).stdout
        )
        assert shown["kind"] == kind
        assert (shown["dylink"] is None) == ("dylink" not in text)

    def test_types_and_flags(self, tmp_path: Path) -> None:
        module = write(
            tmp_path / "x.so",
            """(module
              (@dylink.0 (mem-info (memory 20 3) (table 2 1)) (export-info "t" tls)
                (import-info "env" "f" binding-weak))
              (import "env" "f" (func (param i32)))
              (memory (export "m") 1 2) (table (export "t") 3 funcref)
                (global (export "g") (mut i64) (i64.const 0)))""",
        )
        shown = json.loads(cli("inspect", "--json", module, cwd=tmp_path).stdout)
        assert shown["imports"] == [
            {
                "module": "env",
                "name": "f",
                "kind": "function",
                "type": "(i32) -> ()",
                "flags": ["binding-weak"],
            }
        ]
        types = {each["name"]: (each["type"], each["flags"]) for each in shown["exports"]}
        assert types == {
            "m": ("1..2 pages", []),
            "t": ("funcref 3..", ["tls"]),
            "g": ("mut i64", []),
        }
        assert shown["dylink"]["memory_alignment"] == 8

    def test_names_cannot_upset_the_terminal(self, tmp_path: Path) -> None:
        module = write(tmp_path / "x.wasm", r'(module (func (export "\1b[2J[bold]\u{202e}")))')
        assert r"\x1b[2J[bold]\u202e" in cli("inspect", module, cwd=tmp_path).stdout

    def test_not_a_module(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("no")
        fails(cli("inspect", "x", cwd=tmp_path), 127, "x:")
        fails(cli("inspect", "nowhere", cwd=tmp_path), 2, "nowhere")


@pytest.mark.slow
class TestLdd:
    def test_tree(self, tmp_path: Path) -> None:
        main = library(tmp_path / "main.wasm", "a.so", "b.so")
        library(tmp_path / "a.so", "c.so")
        library(tmp_path / "lib" / "b.so", "c.so", "a.so")
        library(tmp_path / "lib" / "c.so", "a.so")
        result = cli("ldd", main, "-L", "lib", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        lines = [line.rstrip() for line in result.stdout.splitlines()]
        assert [line.split(" => ")[0] for line in lines] == [
            str(main),
            "├── a.so",
            "│   └── c.so",
            "│       └── a.so",
            "└── b.so",
            "    ├── c.so",
            "    └── a.so",
        ]
        assert lines[1].endswith(str(tmp_path / "a.so"))
        assert lines[3].endswith("(cycle)")
        assert lines[5].endswith("(see above)")

    def test_missing(self, tmp_path: Path) -> None:
        main = library(tmp_path / "main.wasm", "a.so", "gone.so")
        library(tmp_path / "a.so", "gone.so", "text.so", "static.so")
        (tmp_path / "text.so").write_text("not wasm")
        write(tmp_path / "static.so", "(module)")
        result = cli("ldd", main, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stdout.count("gone.so => not found") == 2
        assert "static.so => not a shared library" in result.stdout
        shown = json.loads(cli("ldd", "--json", main, cwd=tmp_path).stdout)
        assert shown["missing"] == ["gone.so", "text.so", "static.so"]
        assert [each["name"] for each in shown["libraries"]] == [
            "a.so",
            "gone.so",
            "text.so",
            "static.so",
        ]
        gone = shown["libraries"][1]
        assert (gone["requester"], gone["path"], gone["problem"]) == (
            "main.wasm",
            None,
            "not found",
        )
        assert any(str(tmp_path) in path for path, _reason in gone["searched"])

    @pytest.mark.slow
    def test_long_chain(self, tmp_path: Path) -> None:
        for number in range(1200):
            library(tmp_path / f"{number}.so", f"{number + 1}.so")
        library(tmp_path / "1200.so")
        result = cli("ldd", tmp_path / "0.so", cwd=tmp_path)
        assert (result.returncode, result.stdout.count("=>")) == (0, 1200)

    def test_nothing_needed(self, tmp_path: Path) -> None:
        static = write(tmp_path / "static.wasm", "(module)")
        assert "needs no libraries" in cli("ldd", static, cwd=tmp_path).stdout


@pytest.mark.slow
class TestEverywhere:
    def test_demo(self, tmp_path: Path) -> None:
        result = cli("demo", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        for word in (
            "hello, world",
            "link, now, together, we",
            "2 greetings",
            "main.wasm",
            "libgreet.so",
            "dlopen",
        ):
            assert word in result.stdout

    def test_version_and_installed_command(self, tmp_path: Path) -> None:
        command = Path(sysconfig.get_path("scripts")) / "pylinker"
        installed = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        assert installed.stdout == cli("--version", cwd=tmp_path).stdout
        assert installed.stdout.startswith("pylinker ")

    @pytest.mark.parametrize(
        "arguments", [["--traceback", "inspect", "x"], ["inspect", "--traceback", "x"]]
    )
    def test_traceback(self, tmp_path: Path, arguments: list[str]) -> None:
        (tmp_path / "x").write_text("no")
        result = cli(*arguments, cwd=tmp_path)
        assert result.returncode == 127
        assert result.stderr.startswith("Traceback")
        assert result.stderr.splitlines()[-1].startswith("pylinker: x:")

    def test_no_escapes_in_a_pipe(self, tmp_path: Path) -> None:
        assert "\x1b" not in cli("inspect", demo.MAIN, cwd=tmp_path).stdout
        assert "\x1b" not in cli("ldd", demo.MAIN, cwd=tmp_path).stdout

    @pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
    def test_colours_on_a_terminal(self, tmp_path: Path, no_color: str, coloured: bool) -> None:
        command = [
            sys.executable,
            "-m",
            "pylinker",
            "ldd",
            str(library(tmp_path / "main.wasm", "gone.so")),
        ]
        env = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=theirs)
            os.close(theirs)
            assert process.wait(DEADLINE) == 1
            assert (b"\x1b[1;31m" in terminal.read(10_000)) == coloured

    @pytest.mark.parametrize(
        "command", [["inspect", "big.wasm"], ["inspect", "--json", "big.wasm"]]
    )
    def test_reader_that_leaves(self, tmp_path: Path, command: list[str]) -> None:
        exports = " ".join(f'(export "function_{number}" (func 0))' for number in range(20_000))
        write(tmp_path / "big.wasm", f"(module (func) {exports})")
        arguments = [sys.executable, "-m", "pylinker", *command]
        with subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
            process.wait(DEADLINE)

    @pytest.mark.parametrize("absent", ["click", "rich"])
    def test_without_the_extra(self, tmp_path: Path, absent: str) -> None:
        code = f"import sys; sys.modules[{absent!r}] = None; from pylinker.cli import main; main()"
        command = [sys.executable, "-c", code, "demo"]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        fails(result, 1, absent, "pip install 'pylinker[cli]'")

    def test_a_bug_is_reported_as_one(self, tmp_path: Path) -> None:
        code = """
import sys, pylinker.cli.inspect
from pylinker.errors import InternalError
def broken(*args, **keywords): raise InternalError("slot 3 is free twice")
pylinker.cli.inspect.parse_module = broken
from pylinker.cli import main
sys.argv = ["pylinker", "inspect", sys.argv[1]]
main()
"""
        command = [sys.executable, "-c", code, str(demo.MAIN)]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        fails(result, 70, "slot 3 is free twice", "report")
