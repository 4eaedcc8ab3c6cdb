"""The page: facts, tables and charts in one self-contained HTML file."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from plotly.offline import get_plotlyjs

from pylinker.bench.charts import charts
from pylinker.bench.results import Comparison, Group, Run
from pylinker.bench.table import CHANGES, COLUMNS, facts_table, notes, rows

__all__ = ["page"]

NUMBERS = {"median", "spread", *CHANGES}
# The page runs its own scripts and fetches nothing; plotly draws with styles and, to save a
# picture, with blobs.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def page(run: Run, comparison: Comparison | None = None) -> str:
    """Return the page of a run."""
    resources = files("pylinker.bench")
    style, script = (
        resources.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    sections = [section(run, group, comparison) for group in run.groups]
    facts = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in facts_table(run.facts)
    )
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in notes(run, comparison))
    count = sum(text.count("<figure>") for text in sections)
    return f"""<!DOCTYPE html>
<html lang="en" data-charts="{count}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>pylinker benchmarks, {escape(run.created)}</title>
<style>
{style}</style>
</head>
<body>
<h1>pylinker benchmarks</h1>
<p>Measured {escape(run.created)}. All times are for one call;
the spread is the range of the middle half of the rounds.</p>
<table class="facts">{facts}</table>
<ul>{remarks}</ul>
{"".join(sections)}
<script>{get_plotlyjs()}</script>
<script>
{script}</script>
</body>
</html>
"""


def section(run: Run, group: Group, comparison: Comparison | None) -> str:
    """Return a group: its name, its table, its charts."""
    columns = COLUMNS + (CHANGES if comparison else ())
    header = "".join(f"<th scope=col{number(column)}>{escape(column)}</th>" for column in columns)
    body = []
    for row in rows(run, group, comparison):
        verdict = (
            "" if row.reached is None else " class=reached" if row.reached else " class=missed"
        )
        cells = [
            f"<td{verdict if column == 'target' else number(column)}>{escape(cell)}</td>"
            for column, cell in zip(columns, row.cells, strict=True)
        ]
        body.append(f"<tr{'' if row.measured else ' class=absent'}>{''.join(cells)}</tr>")
    figures = [
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<div class="chart" data-traces="{chart.traces}" role="img" '
        f'aria-label="{escape(group.name)}: {escape(chart.title)}"></div>'
        f'<script type="application/json">{chart.figure}</script></figure>'
        for chart in charts(group)
    ]
    return f"""<section>
<h2>{escape(group.name)}</h2>
<div class="scroll"><table><thead><tr>{header}</tr></thead>
<tbody>{"".join(body)}</tbody></table></div>
{"".join(figures)}
</section>
"""


def number(column: str) -> str:
    """Return the attribute of a cell in this column."""
    return " class=number" if column in NUMBERS else ""
