"""WASI preview 1, for the program and its libraries alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

import pylinker
from running import copies, lines, run, spawn
from toolchain import Scenario


@pytest.fixture
def main(scenario: Scenario) -> Path:
    return scenario("wasi") / "main.wasm"


def test_arguments_arrive_after_the_programs_name(main: Path) -> None:
    outcome = run(main, "args", "two words", "", "ünï→🐍")
    assert outcome == (0, lines("0=main.wasm", "1=args", "2=two words", "3=", "4=ünï→🐍"), "")


def test_the_environment_is_what_was_given_and_nothing_else(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "x")
    outcome = run(
        main,
        "env",
        "A",
        "env",
        "EMPTY",
        "env",
        "HOST_SECRET",
        "env",
        "PATH",
        env={"A": "1=ü", "EMPTY": ""},
    )
    assert outcome.stdout == lines("A=1=ü", "EMPTY=", "HOST_SECRET=(unset)", "PATH=(unset)")


@pytest.mark.parametrize(
    "keywords",
    [
        {"args": ["a\0b"]},
        {"env": {"A\0": "1"}},
        {"env": {"A": "1\0"}},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
    ],
)
def test_arguments_and_environment_that_wasi_cannot_carry_are_refused(
    main: Path, keywords: dict[str, object]
) -> None:
    with pytest.raises(ValueError):
        pylinker.Program(main, **keywords)


def test_files_of_a_preopened_directory_are_read_and_written(main: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    outcome = run(
        main,
        "cat",
        "/data/in.txt",
        "write",
        "/data/out.txt",
        "list",
        "/data",
        dirs={"/data": tmp_path},
    )
    assert outcome.stdout == lines(
        "/data/in.txt: one", "/data/in.txt: two", "wrote /data/out.txt", "/data has 2"
    )
    assert (tmp_path / "out.txt").read_text() == "written by the guest\n"


def test_several_directories_may_be_preopened(main: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"in {name}\n")
    outcome = run(
        main,
        "cat",
        "/a/file",
        "cat",
        "/b/file",
        dirs={"/a": tmp_path / "a", "/b": str(tmp_path / "b")},
    )
    assert outcome.stdout == lines("/a/file: in a", "/b/file: in b")


def test_nothing_outside_the_preopened_directories_is_reachable(main: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "data").mkdir()
    outcome = run(
        main,
        "cat",
        "/data/../secret",
        "cat",
        str(tmp_path / "secret"),
        dirs={"/data": tmp_path / "data"},
    )
    assert outcome.status == 0
    assert [line.split(":")[0] for line in outcome.stdout.splitlines()] == [
        "cannot open /data/../secret",
        f"cannot open {tmp_path / 'secret'}",
    ]
    assert run(main, "cat", "/data/x").stdout.startswith("cannot open /data/x: ")


def test_a_preopened_directory_must_exist(main: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        pylinker.Program(main, dirs={"/data": tmp_path / "nowhere"})


def test_stdin_is_bytes_or_a_file(main: Path, tmp_path: Path) -> None:
    assert run(main, "stdin", stdin=b"one\ntwo\n").stdout == lines("stdin: one", "stdin: two")
    assert run(main, "stdin", stdin=b"").stdout == ""
    (tmp_path / "input").write_text("from a file\n")
    assert run(main, "stdin", stdin=tmp_path / "input").stdout == "stdin: from a file\n"
    large = [str(n) for n in range(50_000)]
    assert run(main, "stdin", stdin=lines(*large).encode()).stdout == lines(
        *(f"stdin: {line}" for line in large)
    )


def test_stdout_and_stderr_are_captured_apart(main: Path) -> None:
    assert run(main, "env", "A", "stderr", env={"A": "1"}) == (0, "A=1\n", "to stderr\n")


def test_stdout_and_stderr_go_to_files(main: Path, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with pylinker.Program(main, args=["args", "stderr"], stdout=out, stderr=str(err)) as program:
        assert program.run() == 0
    assert out.read_text() == lines("0=main.wasm", "1=args", "2=stderr")
    assert err.read_text() == "to stderr\n"


def test_output_can_be_thrown_away(main: Path) -> None:
    with pylinker.Program(
        main, args=["args", "stderr"], stdout=pylinker.DEVNULL, stderr=pylinker.DEVNULL
    ) as program:
        assert program.run() == 0


def test_streams_are_inherited_by_default(main: Path, tmp_path: Path) -> None:
    outcome = spawn(
        tmp_path, main, "stdin", "stderr", "report", "raw", "return", "7", stdin="typed\n"
    )
    expected = lines(
        "stdin: typed", "from the library", "report: 17", "raw from the library", "raw: 21"
    )
    assert outcome == (7, expected, "to stderr\n")


def test_a_library_that_only_imports_its_memory_can_print(main: Path) -> None:
    outcome = run(main, "report", "raw")
    assert outcome == (
        0,
        lines("from the library", "report: 17", "raw from the library", "raw: 21"),
        "",
    )


def test_a_library_without_any_program_can_print(scenario: Scenario) -> None:
    path = [scenario("wasi")]
    with pylinker.CDLL("libreport.so", library_path=path, stdout=pylinker.CAPTURE) as library:
        assert library.report_raw("straight to WASI\n") == 17
        assert library.program.stdout == b"straight to WASI\n"


@pytest.mark.parametrize("how", ["return", "exit", "_exit"])
@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_the_exit_status_is_the_programs(main: Path, how: str, status: int) -> None:
    assert run(main, "env", "A", how, str(status)) == (status, "A=(unset)\n", "")


def test_an_abort_is_a_trap_and_the_output_before_it_is_kept(main: Path) -> None:
    with pylinker.Program(main, args=["env", "A", "abort"], stdout=pylinker.CAPTURE) as program:
        with pytest.raises(wasmtime.Trap):
            program.run()
        assert program.stdout == b"A=(unset)\n"


def test_captured_output_is_readable_while_the_program_lives(scenario: Scenario) -> None:
    with pylinker.Program(scenario("wasi") / "main.wasm", stdout=pylinker.CAPTURE) as program:
        library = program.dlopen("libreport.so")
        assert program.stdout == b""
        library.report_raw("one\n")
        assert program.stdout == b"one\n"
        library.report_raw("two\n")
        assert program.stdout == b"one\ntwo\n"


def test_a_large_output_is_captured_whole(scenario: Scenario) -> None:
    with pylinker.Program(scenario("wasi") / "main.wasm", stdout=pylinker.CAPTURE) as program:
        library = program.dlopen("libreport.so")
        block = "x" * 9_999 + "\n"
        for _ in range(300):
            assert library.report_raw(block) == 10_000
        assert program.stdout == block.encode() * 300


def test_the_main_module_may_lie_anywhere(scenario: Scenario, tmp_path: Path) -> None:
    directory = copies(
        scenario("wasi"), tmp_path / "a dir with spaces → ü", "main.wasm", "libreport.so"
    )
    assert run(directory / "main.wasm", "args").stdout == lines("0=main.wasm", "1=args")
