"""What each constant of spinning and yielding buys: the rendezvous with it, and without.

    python benchmarks/constants.py [ROUNDS]

Needs gcc and the source tree. Each row is the time of a rendezvous without one constant, divided by
the time with it: above 1 it is worth having there. The core is compiled anew for each row
(``csrc/tests/time_rendezvous.c``), and its processes alternate with those of the core as it is, in
ROUNDS rounds (5). A first table has the medians of the rendezvous, a second one their 99th
percentiles. The columns are numbers of groups that yield between two safepoints, or compute.
*beside* runs beside two processes that compute.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

CSRC = Path(__file__).parents[1] / "csrc"
WITHOUT = {
    "SPIN_NS": [("rendezvous.c", r"SPIN_NS = 20000", "SPIN_NS = 0")],
    "SPIN_EACH_NS": [("rendezvous.c", r"SPIN_EACH_NS = 6000", "SPIN_EACH_NS = 0")],
    "OVERSUBSCRIPTION_LIMIT": [
        ("rendezvous.c", r"OVERSUBSCRIPTION_LIMIT = 64", "OVERSUBSCRIPTION_LIMIT = 100000")
    ],
    "SPIN_COOLDOWN_NS": [("rendezvous.c", r"SPIN_COOLDOWN_NS = 100000000", "SPIN_COOLDOWN_NS = 0")],
    "YIELD_LIMIT_NS": [("rendezvous.c", r"YIELD_LIMIT_NS = 4000000", "YIELD_LIMIT_NS = 0")],
    "yields": [("event.c", r"if \(yields\) \{\n +sched_yield\(\);\n +\}\n", "")],
}
CASES = [
    ("2 yield", 2, "yields", False),
    ("5 yield", 5, "yields", False),
    ("16 yield", 16, "yields", False),
    ("200 yield", 200, "yields", False),
    ("2 compute", 2, "computes", False),
    ("16 compute", 16, "computes", False),
    ("2 beside", 2, "yields", True),
    ("16 beside", 16, "yields", True),
]
OPERATIONS = 400


def build(directory: Path, edits: list[tuple[str, str, str]]) -> Path:
    """Compile the core with the edits; return the program."""
    edited = dict.fromkeys(file for file, _, _ in edits)
    for file, pattern, replacement in edits:
        text = (directory / file if edited[file] else CSRC / file).read_text(encoding="utf-8")
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise SystemExit(f"{file}: {pattern!r} occurs {count} times")
        (directory / file).write_text(text, encoding="utf-8")
        edited[file] = True
    sources = [directory / each.name if each.name in edited else each for each in CSRC.glob("*.c")]
    program = directory / "program"
    command = ["gcc", "-std=c11", "-O2", "-pthread", f"-I{CSRC}", "-include"]
    command += [str(CSRC / "tests/inject.h"), str(CSRC / "tests/time_rendezvous.c")]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
    return program


def nanoseconds(program: Path, groups: int, kind: str) -> tuple[float, float]:
    """Run the program once; return median and 99th percentile."""
    command = [str(program), str(groups), str(OPERATIONS), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    median, late = map(float, done.stdout.split())
    return median, late


def table(times: dict[tuple[str, str], list[tuple[float, float]]], which: int) -> None:
    """Print the ratios of one of the two numbers."""
    titles = [title for title, *_ in CASES]
    whole = {
        title: statistics.median(each[which] for each in times["as it is", title])
        for title in titles
    }
    print(f"{'':32}" + "".join(f"{title:>12}" for title in titles))
    print(f"{'as it is, us':32}" + "".join(f"{whole[t] / 1000:12.1f}" for t in titles))
    for constant in WITHOUT:
        cells = [
            statistics.median(
                without[which] / with_[which]
                for without, with_ in zip(
                    times[constant, title], times["as it is", title], strict=True
                )
            )
            for title in titles
        ]
        print(f"{'without ' + constant:32}" + "".join(f"{cell:12.2f}" for cell in cells))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        programs = {}
        for constant, edits in {"as it is": [], **WITHOUT}.items():
            directory = Path(name) / constant.replace(" ", "-")
            directory.mkdir()
            programs[constant] = build(directory, edits)
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for title, groups, kind, beside in CASES:
            with ExitStack() as others:
                for _ in range(2 if beside else 0):
                    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                    others.callback(other.wait)
                    others.callback(other.kill)
                for _ in range(rounds):
                    for constant, program in programs.items():
                        found = nanoseconds(program, groups, kind)
                        times.setdefault((constant, title), []).append(found)
                print(f"{title}: done", file=sys.stderr)
        print("median")
        table(times, 0)
        print("\n99th percentile")
        table(times, 1)


if __name__ == "__main__":
    main()
