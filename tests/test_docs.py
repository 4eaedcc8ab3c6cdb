"""Every code block of README, docs and examples runs as its page says, but for NOT_RUN.

A page's blocks run in its order, in one directory. For a page of ``examples/`` that is a copy of
its folder; other pages get an empty one. It also has links to the folders of
a checkout (``csrc``, ``docs``, ``examples``).

- c, cpp: the first line names a file (``// name.c``), which is written; a block without a name must
  compile.
- sh: run by the page's shell, which keeps variables and aliases from block to block; must succeed.
- console: ``$ command`` lines for the same shell. The lines below a command are its standard
  output; ``...`` stands for any lines.
- python: a program of its own. A line ``print(...)  # text`` must print that text, and there must
  be one, or an ``assert``.
- json, toml: parsed.

Anything else does not run, and :data:`NOT_RUN` lists it. ``pip install`` installs nothing here:
what it names must be an extra of this project or be installed, and ``pytest`` is not run within
itself.
"""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import pylinker
from pylinker.cli.check import TITLES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ],
)
FENCE = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>[^\n`]*)\n"
    r"(?P<text>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
PROMISE = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)
DEADLINE = 300  # seconds for one command: a hang, and not a slow machine

# Blocks that cannot run: the page, the block's language, and how it begins. And why.
NOT_RUN = {
    (
        "docs/performance.md",
        "text",
        "$ pip install 'pylinker[bench]'",
    ): "measures for many minutes; test_bench.py runs the command",
    (
        "docs/performance.md",
        "text",
        "from pylinker.benchmarks.roles",
    ): "a part of a file; benchmarks/ has whole ones",
    (
        "docs/api.md",
        "text",
        "Program(main=None",
    ): "a signature; test_signatures_are_true compares it",
    (
        "docs/building-with-clang.md",
        "text",
        "WASI_SDK=",
    ): "wasi-sdk is in no package registry; clang's options above it are tested",
    ("docs/design.md", "text", "(func $trampoline"): "a sketch of generated code",
    (
        "docs/design.md",
        "text",
        '@guest_call("wasix_32v1"',
    ): "a part of a file; tests/test_guest_calls.py has whole ones",
    ("docs/model/README.md", "text", "$ docs/model/check"): "takes minutes; test_model.py runs it",
    ("docs/model/README.md", "text", "$ cd docs/model"): "needs spin, and shows a failure",
}

# Pages that need tools which pip does not bring. In CI they are there.
NEEDS = {
    "docs/building-with-clang.md": ("clang-19", "wasm-ld-19"),
    "docs/synchronization.md": ("cc",),
}

# Put before what is on PATH.
PIP = """#!{python}
import re, sys
from importlib.metadata import distribution, metadata
assert sys.argv[1] == "install", "pip " + sys.argv[1] + " is not run here"
extras = set(metadata("pylinker").get_all("Provides-Extra"))
for word in sys.argv[2:]:
    if word.startswith("-"):
        continue
    name, _, wanted = word.partition("[")
    wanted = {{each.strip() for each in wanted.rstrip("]").split(",") if each}}
    unknown = wanted - extras if name in (".", "pylinker") else set()
    assert not unknown, f"pylinker has no extra {{unknown}}"
    if name != ".":
        distribution(re.split("[<>=]", name)[0])
"""
PYTEST = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"

    @property
    def key(self) -> tuple[str, str, str]:
        return name(self.page), self.language, self.text.split("\n", 1)[0]


def name(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language = match["language"].strip().split(" ")[0]
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start()) + 1,
                language,
                textwrap.dedent(match["text"]),
            )
        )
    return found


class Follower:
    """Does what a page says, block after block."""

    def __init__(self, page: Path, directory: Path, tools: Path) -> None:
        self.directory = directory
        if page.parent.parent == ROOT / "examples":
            shutil.copytree(page.parent, directory, dirs_exist_ok=True)
        for each in ("csrc", "docs", "examples"):
            (directory / each).symlink_to(ROOT / each)
        for tool, text in (("pip", PIP.format(python=sys.executable)), ("pytest", PYTEST)):
            (tools / tool).write_text(text)
            (tools / tool).chmod(0o755)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = {
            **os.environ,
            "PATH": path,
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.scripts = 0

    @cached_property
    def shell(self) -> subprocess.Popen[str]:
        """A shell that ends at the first command that fails."""
        return subprocess.Popen(
            ["sh", "-eu"],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, commands: str, block: Block) -> str:
        """Let the shell run ``commands`` and return their standard output."""
        shell = self.shell
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stderr is not None
        self.scripts += 1
        script = self.directory / f".block{self.scripts}.sh"
        script.write_text(commands)
        # sourced: an alias that a line defines is known to the next one, and so is a variable to
        # the next block
        shell.stdin.write(
            f". ./{script.name} </dev/null 2>./.errors; printf '\\n%s\\n"
            f"' 'end of block {self.scripts}'\n"
        )
        shell.stdin.flush()
        lines = []
        for line in shell.stdout:
            if line == f"end of block {self.scripts}\n":
                return "".join(lines).removesuffix("\n")
            lines.append(line)
        errors = (self.directory / ".errors").read_text(errors="replace")
        pytest.fail(
            f"{block}: exit status {shell.wait(DEADLINE)}:\n{commands}{''.join(lines)}{errors}"
        )

    def close(self) -> None:
        if "shell" in self.__dict__:
            self.shell.communicate(timeout=DEADLINE)

    def c(self, block: Block) -> None:
        first = re.match(r"(?://|/\*) ?([\w./-]+\.(?:c|h|cpp|hpp))\b", block.text)
        if first:
            target = self.directory / first[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
            return
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "--target=wasm32-wasi",
            "-Wall",
            "-Werror",
            "-c",
            "-xc",
            "-",
            "-o",
            os.devnull,
        ]
        done = subprocess.run(
            command,
            input=block.text,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, f"{block}: {done.stderr}"

    cpp = c

    def sh(self, block: Block) -> None:
        self.run(block.text, block)

    def console(self, block: Block) -> None:
        steps = re.findall(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
        assert block.text.startswith("$ "), f"{block}: a console block begins with a command"
        for command, promised in steps:
            printed = self.run(command, block)
            pattern = "".join(
                "(?:.*\n)*" if line == "..." else re.escape(line.rstrip()) + "[ ]*\n"
                for line in promised.splitlines()
            )
            assert re.fullmatch(pattern, printed), f"{block}: $ {command}{printed}"

    def python(self, block: Block) -> None:
        script = self.directory / f".block{block.line}.py"
        named = re.match(r"# ([\w/-]+\.py)\n", block.text)
        if named:
            script = self.directory / named[1]
        script.write_text(block.text)
        env = {**self.env, "PYTHONPATH": str(self.directory)}
        done = subprocess.run(
            [sys.executable, "-W", "error", script],
            cwd=self.directory,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{block}: {done.stdout}{done.stderr}"
        promised = PROMISE.findall(block.text)
        assert promised or "assert " in block.text or named, f"{block}: shows nothing"
        assert done.stdout.splitlines()[: len(promised)] == promised, str(block)

    def json(self, block: Block) -> None:
        json.loads(block.text)

    def toml(self, block: Block) -> None:
        tomllib.loads(block.text)


RUN = {"c", "console", "cpp", "json", "python", "sh", "toml"}


FAST = {"README.md", "docs/index.md"}


@pytest.mark.timeout(2 * DEADLINE)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[] if name(page) in FAST else [pytest.mark.slow])
        for page in PAGES
        if any(block.language in RUN for block in blocks(page))
    ],
)
def test_every_block_of_a_page_runs(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    missing = [tool for tool in NEEDS.get(name(page), ()) if shutil.which(tool) is None]
    if missing:
        assert os.environ.get("CI") != "true", f"required in CI: {missing}"
        pytest.skip(f"not installed: {missing}")
    follower = Follower(page, tmp_path, tmp_path_factory.mktemp("tools"))
    try:
        for block in blocks(page):
            if block.language in RUN:
                getattr(follower, block.language)(block)
    finally:
        follower.close()


def test_no_block_is_skipped_silently() -> None:
    left = [block.key for page in PAGES for block in blocks(page) if block.language not in RUN]
    unlisted = [
        key
        for key in left
        if not any(key[:2] == each[:2] and key[2].startswith(each[2]) for each in NOT_RUN)
    ]
    assert not unlisted, (
        "give the block a language that runs, or list it in NOT_RUN with the reason"
    )
    gone = [
        each
        for each in NOT_RUN
        if not any(key[:2] == each[:2] and key[2].startswith(each[2]) for key in left)
    ]
    assert not gone, "NOT_RUN names blocks that are not there"


def test_signatures_are_true() -> None:
    (block,) = [
        block for block in blocks(ROOT / "docs" / "api.md") if block.text.startswith("Program(")
    ]
    stated: dict[str, Any] = {}
    exec(f"def {block.text.strip()}: ...", stated)
    promised = {
        each.name: (each.default, each.kind)
        for each in inspect.signature(stated["Program"]).parameters.values()
    }
    assert promised == {
        each.name: (each.default, each.kind)
        for each in inspect.signature(pylinker.Program).parameters.values()
    }


MEMBERS = {
    "Program": pylinker.Program,
    "GuestThread": pylinker.GuestThread,
    "Memory": pylinker.Memory,
    "Debugging": pylinker,
}


@pytest.mark.parametrize("section", MEMBERS)
def test_signatures_of_members_are_true(section: str) -> None:
    text = (
        (ROOT / "docs" / "api.md")
        .read_text(encoding="utf-8")
        .partition(f"## {section}\n")[2]
        .partition("\n## ")[0]
    )
    checked = 0
    for member, parameters in re.findall(r"`(\w+)\(([^()`]*)\)`", FENCE.sub("", text)):
        found = getattr(MEMBERS[section], member, None)
        if found is None or isinstance(found, type):
            continue  # a call in an example, a class
        stated = f"def {member}({parameters}): ..."
        space = {each: getattr(pylinker, each) for each in pylinker.__all__}
        exec(stated, space)
        promised = [
            (each.name, each.default, each.kind)
            for each in inspect.signature(space[member]).parameters.values()
        ]
        actual = [
            (each.name, each.default, each.kind)
            for each in inspect.signature(found).parameters.values()
            if each.name != "self"
        ]
        assert promised == actual, member
        checked += 1
    assert checked >= {"Program": 9, "Memory": 5}.get(section, 1)


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8").partition(heading)[2]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[0].splitlines()[2:]]


def test_limits_have_the_defaults_that_the_table_says() -> None:
    sizes = {"GiB": 1 << 30, "MiB": 1 << 20}
    stated = {}
    for name, default, _ in table("docs/api.md", "### Limits\n"):
        number, _, unit = default.replace(",", "").partition(" ")
        stated[name.strip("`")] = int(number) * sizes.get(unit, 1)
    assert stated == dataclasses.asdict(pylinker.Limits())


def test_errors_inherit_the_builtins_that_the_table_says() -> None:
    stated = {
        row[0].strip("`"): {getattr(builtins, each.strip("` ")) for each in row[1].split(",")}
        for row in table("docs/api.md", "## Errors")
    }
    errors = {
        each: getattr(pylinker, each)
        for each in pylinker.errors.__all__
        if isinstance(getattr(pylinker, each), type)
        and issubclass(getattr(pylinker, each), pylinker.LinkError)
    }
    assert set(stated) == set(errors) - {"LinkError"}
    for name, builtin in stated.items():
        assert {
            each for each in errors[name].__bases__ if each.__module__ == "builtins"
        } == builtin, name
    assert not issubclass(pylinker.InternalError, pylinker.LinkError)


def test_questions_are_answered_by_at_most_two_files_and_functions_that_exist() -> None:
    rows = table("docs/design.md", "## Where to find what")
    assert len(rows) >= 10
    for question, answer in rows:
        named = re.findall(r"\]\(\.\./([^)]*)\)([^\[]*)", answer)
        assert 1 <= len(named) <= 2, question
        for path, text in named:
            source = (ROOT / path).read_text(encoding="utf-8")
            names = re.findall(r"`(\w+)`", text)
            assert names, question
            for name in names:
                defined = (
                    rf"^ *(?:(?:def|class) |@){name}\b",  # Python
                    rf"^{name}\b.*=",
                    rf"^\w.*\b{name}\([^;]*$",  # C
                    rf"^\}} {name};",
                )
                assert any(re.search(each, source, re.MULTILINE) for each in defined), (
                    question,
                    path,
                    name,
                )


def test_the_glossary_is_in_order() -> None:
    rows = table("docs/design.md", "## Glossary")
    terms = [row[0].lower() for row in rows]
    assert len(terms) >= 40
    assert terms == sorted(terms)
    assert all(len(row) == 3 and all(row) for row in rows)


def test_what_check_lists_is_what_the_page_says() -> None:
    stated = {
        row[0]
        for row in table("docs/debugging.md", "No module is compiled, no code of a guest runs.")
    }
    assert stated == {"missing", *(title.partition(":")[0] for _, title, _ in TITLES)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_is_seen(page: Path) -> None:
    fences = re.findall(r"^ *```+", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page)), "a fence is not closed, or closed by another"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", text):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            headings = re.findall(
                r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE
            )
            assert anchor in {slug(heading) for heading in headings}, f"{target}#{anchor}"


def slug(heading: str) -> str:
    """The anchor of a heading on GitHub and in mkdocs."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


@pytest.mark.parametrize(
    "folder",
    [path for path in (ROOT / "examples").iterdir() if path.is_dir()],
    ids=lambda path: path.name,
)
def test_every_file_of_an_example_is_used(folder: Path) -> None:
    """By the page, by what the page runs, or by a source."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "README.md"]
    has_sources = any(path.suffix in {".c", ".cpp"} for path in files)
    assert {"README.md", *(["build.py"] if has_sources else [])} <= {
        path.name for path in folder.iterdir()
    }
    texts = {path: path.read_text(encoding="utf-8") for path in [*files, folder / "README.md"]}
    for path in files:
        assert any(
            re.search(rf"\b{path.stem}\b", text) for each, text in texts.items() if each != path
        ), path.name


class TestTheFollowerItself:
    """It must fail where a page is wrong."""

    @pytest.fixture
    def follow(self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
        def follow(*given: tuple[str, str]) -> None:
            follower = Follower(ROOT / "README.md", tmp_path, tmp_path_factory.mktemp("tools"))
            try:
                for line, (language, text) in enumerate(given, 1):
                    getattr(follower, language)(Block(ROOT / "README.md", line, language, text))
            finally:
                follower.close()

        return follow

    def test_what_is_right_passes(self, follow) -> None:
        follow(
            ("sh", "alias say=echo\nwhat='a b'\n"),
            (
                "console",
                "$ say \"$what\" \\\n  c\na b c\n$ cat\n$ printf 'x\\ny\\nz\\n'\nx\n...\nz\n",
            ),
            ("sh", "pip install 'pylinker[cli]' ziglang && pytest\n"),
            ("python", "print(6 * 7)  # 42\n"),
            ("c", "int f(void);\n"),
            ("json", "{}"),
        )

    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("sh", "false\n"),
            ("sh", "pip install 'pylinker[no-such-extra]'\n"),
            ("sh", "pip install no-such-distribution\n"),
            ("sh", "echo $undefined_name\n"),
            ("console", "$ echo one\ntwo\n"),
            ("console", "$ echo one\n"),
            ("console", "echo one\n"),
            ("python", "print(1)  # 2\n"),
            ("python", "1 + 1\n"),
            ("python", "import sys; print(1)  # 1\nsys.exit(3)\n"),
            ("c", "int f(\n"),
        ],
    )
    def test_what_is_wrong_fails(self, follow, language: str, text: str) -> None:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            follow((language, text))
