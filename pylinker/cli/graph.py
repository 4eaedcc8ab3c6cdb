"""``pylinker graph``: the modules of a program and their bindings, as a picture."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pylinker.cli.check import look
from pylinker.cli.drawing import Box, Line, draw
from pylinker.cli.output import printable, traceback_option
from pylinker.linker import HOST

if TYPE_CHECKING:
    from pylinker.linker import LinkReport

__all__ = ["graph"]

SHOWN = 30  # names of symbols in a tooltip


@click.command()
@click.argument("main", type=click.Path(exists=True, dir_okay=False))
@click.argument("libs", metavar="[LIBS]...", nargs=-1)
@click.option("-L", "library_path", metavar="DIR", multiple=True, help="Search DIR for libraries.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Output file (- is stdout).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["svg", "dot"]),
    help="Default: the suffix of FILE, or svg.",
)
@traceback_option
def graph(
    *,
    main: str,
    libs: tuple[str, ...],
    library_path: tuple[str, ...],
    output: str,
    form: str | None,
) -> None:
    """Draw MAIN with LIBS and their dependencies, and the number of symbols bound between modules.

    Nothing is run. dot is the language of Graphviz.

    \b
    pylinker graph app.wasm -L lib -o app.svg
    pylinker graph app.wasm --format dot | dot -Tpdf > app.pdf

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    form = form or ("dot" if Path(output).suffix in {".dot", ".gv"} else "svg")
    if form == "svg" and find_spec("grandalf") is None:
        raise click.ClickException(
            "drawing needs grandalf: pip install 'pylinker[graph]' (--format dot does not)"
        )
    boxes, lines = picture(look(main, libs, library_path))
    text = draw(boxes, lines) if form == "svg" else as_dot(boxes, lines)
    with click.open_file(output, "w", encoding="utf-8") as stream:
        stream.write(text)


def picture(seen: LinkReport) -> tuple[list[Box], list[Line]]:
    """Return boxes and lines: main first, then libraries in scope order, then missing ones."""
    bound: dict[tuple[str, str], list[str]] = {}
    hosted: Counter[str] = Counter()
    for each in seen.bindings:
        if each.provider == HOST:
            hosted[each.importer] += 1
        elif each.provider != each.importer:
            bound.setdefault((each.importer, each.provider), []).append(each.symbol)
    wrong = Counter(
        name for each in (*seen.of("undefined"), *seen.of("mismatched")) for name in each.wanted_by
    )
    boxes = []
    for module in seen.modules:
        texts = [module.name]
        if hosted[module.name]:
            texts.append(f"{hosted[module.name]} from {HOST}")
        if wrong[module.name]:
            texts.append(f"{wrong[module.name]} undefined or mismatched")
        boxes.append(
            Box(
                module.name,
                tuple(texts),
                "bad" if wrong[module.name] else "main" if module.is_main else "",
            )
        )
    boxes += [Box(each.name, (each.name, "missing"), "bad") for each in seen.missing]
    known = {box.key for box in boxes}
    needed = {
        (module.name, name)
        for module in seen.modules
        for name in module.needed
        if name in known and name != module.name
    }
    lines = []
    for start, end in sorted(
        {*bound, *needed}, key=lambda pair: (*(_rank(boxes, key) for key in pair),)
    ):
        names = sorted(set(bound.get((start, end), [])))
        title = f"{start} {'needs' if (start, end) in needed else 'binds to'} {end}"
        title += (
            f": {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}" if names else ""
        )
        lines.append(Line(start, end, str(len(names)) if names else "", title, needed=not names))
    return boxes, lines


def _rank(boxes: list[Box], key: str) -> int:
    return next(number for number, box in enumerate(boxes) if box.key == key)


def as_dot(boxes: list[Box], lines: list[Line]) -> str:
    """Return the graph in the language of Graphviz."""
    colours = {"": "black", "main": "blue", "bad": "red"}
    out = [
        "digraph {",
        "  rankdir=LR;",
        '  node [shape=box, fontname="monospace"];',
        '  edge [fontname="monospace"];',
    ]
    out += [
        f"  {quoted(box.key)} [label={quoted(*box.texts)}, color={colours[box.kind]}];"
        for box in boxes
    ]
    for line in lines:
        style = "dashed" if line.needed else "solid"
        out.append(
            f"  {quoted(line.start)} -> {quoted(line.end)} [label={quoted(line.label)}, "
            f"tooltip={quoted(line.title)}, style={style}];"
        )
    return "\n".join([*out, "}", ""])


def quoted(*texts: str) -> str:
    """Return lines of text as one string of the language."""
    return (
        '"'
        + "\\n".join(printable(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts)
        + '"'
    )
