"""The C core's own tests, under the address and undefined-behaviour sanitizers of each compiler that is here."""

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent / "csrc"
COMPILERS = [compiler for compiler in ("gcc", "clang") if shutil.which(compiler)]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_core_passes_its_tests_under_sanitizers(compiler, tmp_path):
    program = tmp_path / "test_core"
    sources = [str(CSRC / "tests" / "test_core.c"), *map(str, sorted(CSRC.glob("*.c")))]
    flags = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *flags, f"-I{CSRC}", *sources, "-o", str(program)], check=True)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 5


def test_a_compiler_is_here():
    assert COMPILERS
