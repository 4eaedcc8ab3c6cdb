"""The project itself: its exports, packaging and compilation, and the truth of its documents."""

from __future__ import annotations

import ast
import graphlib
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
        and each != "TYPE_CHECKING"
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", name).startswith("pylinker")
    }
    assert public <= set(module.__all__) | {"annotations"}


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_names_are_imported_when_the_first_is_used() -> None:
    """``import pylinker`` checks wasmtime; no test compares the time."""
    done = run_script("""
import sys, wasmtime
before = set(sys.modules)
import pylinker
heavy = {"dataclasses", "hashlib", "importlib.metadata"}
heavy |= {"pylinker.linker", "pylinker.sync", "pylinker.wasm"}
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
assert set(pylinker.__all__) <= set(dir(pylinker))
assert pylinker.linker.limits.Limits is pylinker.Limits
from pylinker import *
assert CDLL is pylinker.CDLL
try:
    pylinker.Cdll
except AttributeError as error:
    assert (error.name, str(error)) == ("Cdll", "module 'pylinker' has no attribute 'Cdll'")
else:
    raise AssertionError
print(pylinker.Program)
""")
    expected = (0, "<class 'pylinker.api.program.Program'>\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_a_fork_waits_for_an_import_of_another_thread() -> None:
    """Else the child would wait for ever: its modules would be those of a thread that is lost."""
    done = run_script("""
import os, signal, sys, threading
import pylinker

class Slow:
    begun = threading.Event()
    forking = threading.Event()

    def find_spec(self, name, path=None, target=None):
        if name == "pylinker.linker.groups.threads":
            self.begun.set()
            assert self.forking.wait(60)

sys.meta_path.insert(0, Slow())
importer = threading.Thread(target=lambda: pylinker.Program)
importer.start()
assert Slow.begun.wait(60)
os.register_at_fork(before=Slow.forking.set)  # the first of the handlers
child = os.fork()
if child == 0:
    signal.alarm(60)
    with pylinker.Program(cache=False):
        os._exit(7)
importer.join()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.parametrize("name", ["pylinker.runtime.types", "pylinker.linker.load.linker"])
def test_an_import_of_a_part_beside_the_first_use_of_a_name(name: str) -> None:
    """No lock of pylinker is taken within the import lock of a module, in the other order, too."""
    done = run_script(f"""
import faulthandler, importlib, sys, threading
import pylinker

class Finder:
    begun = threading.Event()

    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            self.begun.set()

faulthandler.dump_traceback_later(60, exit=True)
sys.meta_path.insert(0, Finder())
importer = threading.Thread(target=importlib.import_module, args=("pylinker.linker",))
importer.start()
assert Finder.begun.wait(60)
print(pylinker.Program)
importer.join()
""")
    expected = (0, "<class 'pylinker.api.program.Program'>\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_every_error_is_public() -> None:
    assert set(pylinker.errors.__all__) <= set(pylinker.__all__)


def test_every_lock_is_on_the_page_about_synchronization() -> None:
    page = (ROOT / "docs" / "synchronization.md").read_text(encoding="utf-8")
    made = re.compile(
        r"threading\.(?:R?Lock|Condition|Event|Semaphore|Barrier)\(|^ "
        r"+pthread_(?:mutex|rwlock)_t \w+;",
        re.MULTILINE,
    )
    own = [
        path for path in (ROOT / "pylinker").rglob("*.py") if path.parent.name != "bench"
    ]  # what measures a program is no part of it
    files = [*(ROOT / "csrc").glob("*.[ch]"), *own]
    lockers = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if made.search(path.read_text(encoding="utf-8"))
    }
    assert {"csrc/event.h", "pylinker/linker/groups/threads.py"} <= lockers
    assert not [path for path in sorted(lockers) if f"](../{path})" not in page]


def imports_of(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Return the modules that a file imports, and ``package.name`` for each name of a package."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found


def test_a_part_uses_only_those_above_it_in_the_table_of_the_page_about_design() -> None:
    page = (
        (ROOT / "docs" / "design.md")
        .read_text(encoding="utf-8")
        .partition("## The parts")[2]
        .partition("\n## ")[0]
    )
    rows = [
        re.findall(r"`pylinker/(\w+)(?:\.py)?`", row.split("|")[1])
        for row in page.splitlines()
        if row.startswith("| `")
    ]
    parts = [name for row in rows for name in row]
    assert {"native", "wasm", "sync", "runtime", "linker", "api", "cli", "bench"} == set(parts)
    for row in filter(None, rows):
        above = parts[: parts.index(row[0])]
        for part in row:
            path = ROOT / "pylinker" / part
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
                used = {
                    each.split(".")[1] for each in imports_of(file) if each.startswith("pylinker.")
                }
                assert not (used & set(parts)) - {part, *above}, file


def test_a_room_of_the_linker_uses_only_those_above_it_in_the_table_of_the_page_about_design() -> (
    None
):
    page = (
        (ROOT / "docs" / "design.md")
        .read_text(encoding="utf-8")
        .partition("| room of")[2]
        .partition("\n\n")[0]
    )
    rooms = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    package = ROOT / "pylinker" / "linker"
    assert sorted(rooms) == sorted(file.parent.name for file in package.glob("*/__init__.py"))
    for number, room in enumerate(rooms):
        for file in (package / room).glob("*.py"):
            used = {
                each.split(".")[2]
                for each in imports_of(file)
                if each.startswith("pylinker.linker.")
            }
            assert used <= {*rooms[: number + 1], "limits", "ranges"}, file
    for name in ("limits", "ranges"):
        assert not {
            each
            for each in imports_of(package / f"{name}.py")
            if each.startswith("pylinker.linker")
        }


def test_there_is_no_circle_of_imports() -> None:
    """Imports for type checking included."""
    package = ROOT / "pylinker"
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in package.rglob("*.py")
        if "benchmarks" not in file.parts
    }
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        used = {each for each in imports_of(file) if each in files}
        # A name of a package that is a module stands for that module alone.
        graph[name] = {
            each for each in used if not any(other.startswith(f"{each}.") for other in used)
        } - {name}
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules of one


def test_a_module_of_the_seam_uses_only_those_before_it_in_the_docstring_of_the_package() -> None:
    """Imports for type checking included: there is no circle."""
    package = ROOT / "pylinker" / "native"
    order = re.findall(
        r"``(\w+)``",
        (package / "__init__.py").read_text(encoding="utf-8").partition("The modules,")[2],
    )
    assert sorted(order) == sorted(
        file.stem for file in package.glob("*.py") if file.stem != "__init__"
    )
    for file in package.glob("*.py"):
        used = {
            each.split(".")[2] for each in imports_of(file) if each.startswith("pylinker.native.")
        }
        assert used <= {*order[: order.index(file.stem) if file.stem in order else 0]}, file


def test_only_runtime_uses_private_names_of_wasmtime() -> None:
    for file in sorted((ROOT / "pylinker").rglob("*.py")):
        part = file.relative_to(ROOT / "pylinker").parts[0]
        if part in ("runtime", "benchmarks"):
            continue
        used = {each for each in imports_of(file) if each.split(".")[0] == "wasmtime"}
        assert part in ("linker", "api", "cli", "bench") or not used, file
        names = {each.partition(".")[2] for each in used} | set(
            re.findall(r"\bwasmtime\.(\w+)", file.read_text(encoding="utf-8"))
        )
        assert names <= {"", "ExitTrap", "Trap", "WasmtimeError", "wat2wasm"}, file


def test_only_the_seam_imports_the_core() -> None:
    files = [
        file
        for file in (ROOT / "pylinker").rglob("*.py")
        if {"pylinker._core", "_core"} & imports_of(file)
    ]
    assert {file.parent.name for file in files} == {"native"}
    assert [
        file.name for file in files if "pylinker._core" in imports_of(file, at_run_time=True)
    ] == ["core.py"]


def test_what_is_made_from_the_headers_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "csrc/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_logger_is_on_the_page_about_debugging() -> None:
    page = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "pylinker").rglob("*.py")]
    names = {
        name for source in sources for name in re.findall(r'getLogger\("(pylinker\.\w+)"\)', source)
    }
    assert len(names) >= 8
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    errors = set(pylinker.errors.__all__) if "::: pylinker.errors\n" in reference else set()
    missing = [
        name
        for name in pylinker.__all__
        if name not in errors and not re.search(rf"\b{name}\b", reference)
    ]
    assert not missing


def test_types_are_shipped() -> None:
    assert (Path(pylinker.__file__).parent / "py.typed").is_file()


def test_version_is_stated_once() -> None:
    assert pylinker.__version__ == importlib.metadata.version("pylinker")
    stated = [
        path
        for path in (ROOT / "pyproject.toml", ROOT / "setup.py")
        if pylinker.__version__ in path.read_text()
    ]
    assert not stated


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.slow
def test_core_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        assert os.environ.get("CI") != "true", (
            f"{compiler} is required in CI: apt-get install {compiler}"
        )
        pytest.skip(f"{compiler} is not installed")
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        f"--build-temp={tmp_path}",
        f"--build-lib={tmp_path}",
    ]
    env = {**os.environ, "CC": compiler, "PYLINKER_WERROR": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr
    assert list((tmp_path / "pylinker").glob("_core.*"))


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "aarch64-macos", "x86_64-macos"])
@pytest.mark.slow
def test_core_compiles_where_wheels_are_built(target: str, tmp_path: Path) -> None:
    sources = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        "-std=c11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        *sources,
    ]
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
    assert (
        sum(
            path.stat().st_size
            for path in demo.DIRECTORY.iterdir()
            if path.suffix in {".so", ".wasm"}
        )
        < 100_000
    )


def test_readme_commands_are_the_ones_ci_runs() -> None:
    first, second = [text.strip() for language, text in BLOCK.findall(README) if language == "sh"][
        :2
    ]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert first in script
    assert script[-1] == second
    assert first.startswith("pip install -e '.[cli]' && ")
    assert second.startswith("pip install -e '.[test]' && ")


def test_the_checkout_is_the_package(tmp_path: Path) -> None:
    script = tmp_path / "t.py"
    script.write_text(
        "import pylinker; print(pylinker.CDLL.__name__, pylinker.__file__)", encoding="utf-8"
    )
    for command in (
        ["-m", "pylinker", "--version"],
        ["-c", script.read_text(encoding="utf-8")],
        [str(script)],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "pylinker" in done.stdout


def test_a_source_folder_without_its_core_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "pylinker",
        tmp_path / "pylinker",
        ignore=shutil.ignore_patterns("_core*", "__pycache__"),
    )
    # Without the finder of an editable install, which knows another _core.
    script = (
        "import sys; sys.meta_path = [each for each in sys.meta_path if 'editable' not in "
        "repr(each)]; import pylinker"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "ImportError: the C core of pylinker is not built in" in done.stderr
        and "pip install -e ." in done.stderr
    )


def test_the_tests_that_the_promises_of_security_name_exist() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ][2:]
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(rows) >= 10
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= defined, row


def test_the_tests_that_catch_mutants_exist_where_the_page_says() -> None:
    text = (
        (ROOT / "docs" / "testing.md")
        .read_text(encoding="utf-8")
        .partition("## Mutants")[2]
        .partition("\n## ")[0]
    )
    named = re.findall(r"`((?:csrc/)?tests/\S+)`, `(test_\w+)`", text)
    assert len(named) >= 8
    for path, test in named:
        assert re.search(rf"\b{test}\(", (ROOT / path).read_text(encoding="utf-8")), (path, test)
