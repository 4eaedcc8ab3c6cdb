"""Coverage-guided fuzzing with atheris: ``python tests/fuzz/run.py TARGET SECONDS``.

TARGET is ``reader`` or ``waits`` (tests/fuzz_targets.py). It starts from tests/fuzz/corpus and adds
nothing to it. What fails is written to the current directory as ``crash-*``, ``timeout-*`` or
``oom-*``, and the exit status is not 0: make the bytes a test in tests/test_fuzz.py, and put them
into the corpus.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

with atheris.instrument_imports(include=["pylinker.wasm", "pylinker.errors"]):
    from fuzz_targets import TARGETS


def main() -> None:
    target, seconds = sys.argv[1:]
    logging.disable()
    check = TARGETS[target]
    with tempfile.TemporaryDirectory() as found:
        limits = [
            f"-max_total_time={int(seconds)}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-malloc_limit_mb=256",
            "-max_len=4096",
            "-verbosity=0",
        ]
        atheris.Setup(
            [sys.argv[0], *limits, "-print_final_stats=1", found, str(HERE / "corpus")], check
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
