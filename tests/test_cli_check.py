"""``pylinker check``: the result of linking, reported without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pylinker
from pylinker.linker import check_links
from test_cli import PIC, cli, write
from toolchain import Scenario


def lib(path: Path, body: str, *needed: str, weak: str = "") -> Path:
    names = " ".join(f'(needed "{name}")' for name in needed)
    flags = f'(import-info "env" "{weak}" binding-weak undefined)' if weak else ""
    return write(path, f"(module (@dylink.0 (mem-info (memory 0 0)) {names} {flags}) {body})")


def report(tmp_path: Path, *arguments: str | Path) -> tuple[int, Any]:
    done = cli("check", "--json", *arguments, cwd=tmp_path)
    assert not done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_wrong(tmp_path: Path) -> None:
    provider = lib(
        tmp_path / "libone.so", f'{PIC} (func (export "one") (result i32) (i32.const 1))'
    )
    user = lib(
        tmp_path / "libuser.so", f'(import "env" "one" (func (result i32))) {PIC}', "libone.so"
    )
    status, seen = report(tmp_path, user)
    assert (status, seen["ok"]) == (0, True)
    assert [each["name"] for each in seen["modules"]] == ["libuser.so", "libone.so"]
    assert all(
        not seen[category]
        for category in ("missing", "undefined", "mismatched", "weak", "duplicate", "unserved")
    )
    assert seen["modules"][1]["path"] == str(provider)


def test_everything_at_once(tmp_path: Path) -> None:
    lib(
        tmp_path / "libfirst.so",
        f'{PIC} (func (export "twice") (param i32)) (func (export "other") (param i32))',
    )
    lib(tmp_path / "libsecond.so", f'{PIC} (func (export "twice") (param i32))')
    imports = """
      (import "env" "absent" (func))
      (import "env" "maybe" (func))
      (import "env" "other" (func (param f64)))
      (import "env" "twice" (func (param i32)))
      (import "GOT.mem" "twice" (global (mut i32)))
      (import "GOT.func" "nobody" (global (mut i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
      (import "wasi_snapshot_preview1" "no_such_call" (func))
      (import "wasix_32v1" "sock_open" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasix_32v1" "thread_id" (func (param i32) (result i32)))
      (import "wasix_32v1" "proc_id" (func (param i32) (result i32)))
      (import "elsewhere" "thing" (func))"""
    user = lib(
        tmp_path / "libuser.so",
        imports + PIC,
        "libfirst.so",
        "libsecond.so",
        "libgone.so",
        weak="maybe",
    )
    status, seen = report(tmp_path, user)
    assert (status, seen["ok"]) == (1, False)
    assert [(each["name"], each["requester"]) for each in seen["missing"]] == [
        ("libgone.so", "libuser.so")
    ]

    def symbols(category: str) -> list[tuple[str, str, list[str], list[str]]]:
        return [
            (each["symbol"], each["kind"], each["wanted_by"], each["defined_by"])
            for each in seen[category]
        ]

    assert symbols("undefined") == [
        ("absent", "function", ["libuser.so"], []),
        ("nobody", "function pointer", ["libuser.so"], []),
        ("wasi_snapshot_preview1.no_such_call", "function", ["libuser.so"], []),
        ("elsewhere.thing", "function", ["libuser.so"], []),
    ]
    assert symbols("mismatched") == [
        ("other", "function", ["libuser.so"], ["libfirst.so"]),
        ("twice", "data", ["libuser.so"], ["libfirst.so"]),
    ]
    assert "wants function (f64) -> (), has function (i32) -> ()" in [
        each["detail"] for each in seen["mismatched"]
    ]
    assert symbols("weak") == [("maybe", "function", ["libuser.so"], [])]
    assert symbols("duplicate") == [
        ("twice", "function", ["libuser.so"], ["libfirst.so", "libsecond.so"])
    ]
    assert symbols("unserved") == [("sock_open", "function", ["libuser.so"], [])]


def test_text_names_who_wants_and_who_has(tmp_path: Path) -> None:
    lib(tmp_path / "libone.so", f'{PIC} (func (export "one") (result i64) (i64.const 1))')
    user = lib(
        tmp_path / "libuser.so",
        f'(import "env" "one" (func (result i32))) (import "env" "two" (func)) {PIC}',
        "libone.so",
    )
    done = cli("check", user, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert any(line.split()[:4] == ["two", "function", "libuser.so", "-"] for line in lines)
    assert any(
        "libone.so" in line and "wants function () -> i32, has function () -> i64" in line
        for line in lines
    )
    assert lines[-1].startswith("libuser.so: 2 modules, ")


def test_what_the_host_gives_is_not_undefined(tmp_path: Path) -> None:
    user = lib(
        tmp_path / "libuser.so", f'(import "env" "mine" (func)) (import "a" "b" (func)) {PIC}'
    )
    assert cli("check", user, cwd=tmp_path).returncode == 1
    assert cli("check", "--provide", "mine", "--provide", "a.b", user, cwd=tmp_path).returncode == 0


def test_all_that_a_load_refuses_is_found(tmp_path: Path) -> None:
    """Tags, globals of the linker, and pointers of another type follow the rules of a load."""
    provider = lib(
        tmp_path / "libone.so",
        f'{PIC} (tag (export "__cpp_exception") (param i64)) (func (export "f"))',
    )
    user = lib(
        tmp_path / "libuser.so",
        """(import "env" "__cpp_exception" (tag (param i32)))
        (import "env" "__memory_base" (global (mut i32)))
        (import "GOT.func" "f" (global i32))
        (import "GOT.mem" "f" (global (mut i32)))
        (import "env" "__heap_base" (global i32))
        (import "env" "memory" (memory 1))""",
        provider.name,
    )
    status, seen = report(tmp_path, user)
    assert status == 1
    assert [(each["symbol"], each["kind"], each["defined_by"]) for each in seen["mismatched"]] == [
        ("__cpp_exception", "tag", ["libone.so"]),
        ("__memory_base", "global", ["pylinker"]),
        ("f", "function pointer", ["libone.so"]),
        ("f", "data", ["libone.so"]),
    ]
    assert [(each["symbol"], each["kind"]) for each in seen["undefined"]] == [
        ("__heap_base", "global")
    ]
    with pytest.raises(pylinker.SignatureMismatchError):
        pylinker.CDLL(user, library_path=[tmp_path], bind_now=True, cache=tmp_path)


def test_libraries_that_are_named_come_before_those_that_are_needed(tmp_path: Path) -> None:
    for name in ("libneeded.so", "libnamed.so"):
        lib(tmp_path / name, f'{PIC} (func (export "f"))')
    user = lib(tmp_path / "libuser.so", f'(import "env" "f" (func)) {PIC}', "libneeded.so")
    _, seen = report(tmp_path, user, "libnamed.so")
    assert [each["name"] for each in seen["modules"]] == [
        "libuser.so",
        "libnamed.so",
        "libneeded.so",
    ]
    assert seen["duplicate"][0]["defined_by"] == ["libnamed.so", "libneeded.so"]


def test_no_guest_code_runs(tmp_path: Path) -> None:
    """A module whose start function and constructor trap, and whose body wasmtime rejects."""
    trap = lib(
        tmp_path / "libtrap.so",
        f'{PIC} (func $s unreachable) (start $s) (func (export "__wasm_call_ctors") unreachable)',
    )
    assert cli("check", trap, cwd=tmp_path).returncode == 0
    assert not list((tmp_path / "cache").glob("*.code"))


def test_what_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "bad.wasm").write_bytes(b"\0asm nonsense")
    for file in ("bad.wasm", "absent.wasm"):
        done = cli("check", file, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert file in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "needed",
        "diamond",
        "cycle",
        "main_cycle",
        "data",
        "interpose",
        pytest.param("cxx", marks=pytest.mark.slow),
        "missing",
        "signature",
        "weak",
    ],
)
def test_agrees_with_the_linker(name: str, scenario: Scenario, tmp_path: Path) -> None:
    """A program has nothing undefined or mismatched exactly if it links with ``bind_now``."""
    directory = scenario(name)
    for file in sorted(directory.glob("*.so")) + sorted(directory.glob("*.wasm")):
        seen = check_links(str(file), library_path=[str(directory)])
        try:
            if file.suffix == ".so":
                pylinker.CDLL(file, library_path=[directory], bind_now=True, cache=tmp_path).close()
            else:
                pylinker.Program(
                    file, library_path=[directory], bind_now=True, cache=tmp_path
                ).close()
            links = True
        except (
            pylinker.UndefinedSymbolError,
            pylinker.SignatureMismatchError,
            pylinker.LibraryNotFoundError,
        ):
            links = False
        assert seen.ok == links, (file.name, seen.missing, seen.findings)
