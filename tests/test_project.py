"""The project itself: what it exports, how it is packaged and compiled, and whether its documents tell the truth."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import pylinker
from pylinker import demo
from pylinker.demo.build import build
from pylinker.wasm import parse_module

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["pylinker", "pylinker.errors", "pylinker.wasm"])
def test_public_names(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for each in module.__all__:
        assert getattr(module, each) is not None
    public = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", name).startswith("pylinker")
    }
    assert public <= set(module.__all__) | {"annotations"}


def test_every_error_is_public() -> None:
    assert set(pylinker.errors.__all__) <= set(pylinker.__all__)


def test_every_lock_is_on_the_page_about_synchronization() -> None:
    page = (ROOT / "docs" / "synchronization.md").read_text(encoding="utf-8")
    made = re.compile(r"threading\.(?:R?Lock|Condition|Event|Semaphore|Barrier)\(|^ +pthread_(?:mutex|rwlock)_t \w+;", re.MULTILINE)
    own = [path for path in (ROOT / "pylinker").rglob("*.py") if path.parent.name != "bench"]  # what measures a program is no part of it
    files = [*(ROOT / "csrc").glob("*.[ch]"), *own]
    lockers = {path.relative_to(ROOT).as_posix() for path in files if made.search(path.read_text(encoding="utf-8"))}
    assert {"csrc/event.h", "pylinker/linker/threads.py"} <= lockers
    assert not [path for path in sorted(lockers) if f"](../{path})" not in page]


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    errors = set(pylinker.errors.__all__) if "::: pylinker.errors\n" in reference else set()
    missing = [name for name in pylinker.__all__ if name not in errors and not re.search(rf"\b{name}\b", reference)]
    assert not missing


def test_types_are_shipped() -> None:
    assert (Path(pylinker.__file__).parent / "py.typed").is_file()


def test_version_is_stated_once() -> None:
    assert pylinker.__version__ == importlib.metadata.version("pylinker")
    stated = [path for path in (ROOT / "pyproject.toml", ROOT / "setup.py") if pylinker.__version__ in path.read_text()]
    assert not stated


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.slow
def test_core_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        assert os.environ.get("CI") != "true", f"{compiler} is required in CI: apt-get install {compiler}"
        pytest.skip(f"{compiler} is not installed")
    command = [sys.executable, "setup.py", "build_ext", f"--build-temp={tmp_path}", f"--build-lib={tmp_path}"]
    env = {**os.environ, "CC": compiler, "PYLINKER_WERROR": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr
    assert list((tmp_path / "pylinker").glob("_core.*"))


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "aarch64-macos", "x86_64-macos"])
@pytest.mark.slow
def test_core_compiles_where_wheels_are_built(target: str, tmp_path: Path) -> None:
    sources = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-c", *sources]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


@pytest.mark.slow
def test_demo_is_built_from_its_sources(tmp_path: Path) -> None:
    for path in build(tmp_path):
        shipped = parse_module((demo.DIRECTORY / path.name).read_bytes())
        rebuilt = parse_module(path.read_bytes())
        assert rebuilt.imports == shipped.imports
        assert list(rebuilt.exports) == list(shipped.exports)
        assert rebuilt.dylink == shipped.dylink


def test_demo_is_small() -> None:
    assert sum(path.stat().st_size for path in demo.DIRECTORY.iterdir() if path.suffix in {".so", ".wasm"}) < 100_000


def test_readme_commands_are_the_ones_ci_runs() -> None:
    first, second = [text.strip() for language, text in BLOCK.findall(README) if language == "sh"][:2]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert first in script
    assert script[-1] == second
    assert first.startswith("pip install -e '.[cli]' && ")
    assert second.startswith("pip install -e '.[test]' && ")


def test_the_checkout_is_the_package(tmp_path: Path) -> None:
    script = tmp_path / "t.py"
    script.write_text("import pylinker; print(pylinker.CDLL.__name__, pylinker.__file__)", encoding="utf-8")
    for command in (["-m", "pylinker", "--version"], ["-c", script.read_text(encoding="utf-8")], [str(script)]):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "pylinker" in done.stdout


def test_a_source_folder_without_its_core_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pylinker", tmp_path / "pylinker", ignore=shutil.ignore_patterns("_core*", "__pycache__"))
    # Without the finder of an editable install, which knows another _core.
    script = "import sys; sys.meta_path = [each for each in sys.meta_path if 'editable' not in repr(each)]; import pylinker"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ImportError: the C core of pylinker is not built in" in done.stderr and "pip install -e ." in done.stderr


def test_the_tests_that_the_promises_of_security_name_exist() -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(rows) >= 10
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= defined, row


def test_the_tests_that_catch_mutants_exist_where_the_page_says() -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8").partition("## Mutants")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:csrc/)?tests/\S+)`, `(test_\w+)`", text)
    assert len(named) >= 8
    for path, test in named:
        assert re.search(rf"\b{test}\(", (ROOT / path).read_text(encoding="utf-8")), (path, test)
