"""The C core's own tests, under the sanitizers of each compiler that is here."""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent / "csrc"
TESTS = CSRC / "tests"
PROGRAMS = sorted(path.stem for path in TESTS.glob("test_*.c"))


def sanitizes(compiler: str, sanitizers: str) -> bool:
    """Whether the compiler has its sanitizers: clang's are in libclang-rt-14-dev on Debian."""
    if shutil.which(compiler) is None:
        return False
    command = [compiler, f"-fsanitize={sanitizers}", "-x", "c", "-", "-o", os.devnull]
    return not subprocess.run(
        command, input=b"int main(void) { return 0; }", capture_output=True, check=False
    ).returncode


COMPILERS = [compiler for compiler in ("gcc", "clang") if sanitizes(compiler, "address,undefined")]
FLAGS = [
    "-std=c11",
    "-pthread",
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    f"-I{CSRC}",
    "-include",
    str(TESTS / "inject.h"),
]
THREAD = [compiler for compiler in COMPILERS if sanitizes(compiler, "thread")]
BUILDS = [(compiler, "address,undefined") for compiler in COMPILERS] + [
    (compiler, "thread") for compiler in THREAD[-1:]
]
FAST = {
    f"test_{name}"
    for name in [
        "backoff",
        "barrier",
        "bus",
        "cancel",
        "event",
        "flag",
        "futex",
        "hold",
        "lead",
        "log",
        "rendezvous",
        "rwlock",
        "safepoint",
        "topology",
    ]
}
TIMEOUT = 240  # seconds: a program's own deadline (check.h) is earlier and says more

pytestmark = pytest.mark.timeout(
    900
)  # compiling under two sanitizers, then a program and its own limits


def compile_object(command: list[str], source: Path, folder: Path) -> str:
    target = folder / f"{source.stem}.o"
    built = subprocess.run(
        [*command, "-c", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return str(target)


def compile_core(command: list[str], folder: Path) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(
                lambda source: compile_object(command, source, folder), sorted(CSRC.glob("*.c"))
            )
        )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            build, id=" ".join(build), marks=[pytest.mark.slow] if build != BUILDS[0] else []
        )
        for build in BUILDS
    ],
)
def core(request, tmp_path_factory):
    """The compiler's command, and the objects of the core, compiled once for all programs."""
    compiler, sanitizers = request.param
    command = [compiler, *FLAGS, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    return command, compile_core(command, tmp_path_factory.mktemp("core"))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 atexit_sleep_ms=0"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=env
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in PROGRAMS],
)
def test_core_passes_its_tests_under_sanitizers(core, name, tmp_path):
    command, objects = core
    source = TESTS / f"{name}.c"
    program = str(tmp_path / name)
    built = subprocess.run(
        [*command, str(source), *objects, "-o", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    result = run([program])
    if (
        "unexpected memory mapping" in result.stderr
    ):  # ThreadSanitizer, where the kernel randomizes more bits than it knows
        result = run(["setarch", "-R", program])
    assert result.returncode == 0, result.stdout + result.stderr  # the seed of a stress is in there
    tests = re.findall(
        r"^static void (test_\w+)\(void\)", source.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [line for line in result.stdout.splitlines() if line.startswith("test_")] == tests


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere it is built like this anyway"
)
@pytest.mark.slow
def test_core_passes_its_tests_without_futexes(core, tmp_path):
    command = [*core[0], "-DPL_EVENT_CONDITION"]
    objects = compile_core(command, tmp_path)
    symbols = subprocess.run(
        ["nm", str(tmp_path / "event.o")], capture_output=True, text=True, check=True
    ).stdout
    assert "pthread_cond_broadcast" in symbols
    for name in ("test_event", "test_rendezvous_stress"):
        program = str(tmp_path / name)
        built = subprocess.run(
            [*command, str(TESTS / f"{name}.c"), *objects, "-o", program],
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stderr
        result = run([program])
        assert result.returncode == 0, result.stdout + result.stderr


def test_a_compiler_is_here():
    assert THREAD
    if os.environ.get("CI") == "true":
        assert COMPILERS == ["gcc", "clang"]
