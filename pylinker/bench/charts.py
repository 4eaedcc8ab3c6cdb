"""The results as charts of plotly: this module makes their description, the page draws them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from pylinker.bench.results import Benchmark, Group
from pylinker.bench.table import amount, label, unit_for

__all__ = ["Chart", "charts"]

# Distinguishable for people with colour vision deficiencies, on white and on black.
COLOURS = {
    "pylinker": "#0f8bd6",
    "wasmtime-py": "#d55e00",
    "wasmer-sdk": "#8f6fd0",
    "bare": "#8a8a8a",
}
OTHERS = ("#009e73", "#cc79a7", "#b58900")
DASHES = ("solid", "dash", "dot", "dashdot")  # several lines of one contender
WIDE = 20  # times: values that differ by more are drawn on a logarithmic axis
CROWDED = 1000  # times: from here on such an axis has room for powers of ten only
ROW = 34  # pixels for a bar
WHAT = {"s": "time of one call", "B": "memory"}


@dataclass(frozen=True)
class Chart:
    """A title, and plotly's description as JSON that is safe in a script element."""

    title: str
    traces: int
    figure: str


def charts(group: Group) -> list[Chart]:
    """Return the charts of a group: times, times over ``n`` if it varies, and distributions."""
    result = [bars(group)]
    if len({each.n for each in group.benchmarks if each.n is not None}) > 1:
        result.append(scaling(group))
    if any(each.samples for each in group.benchmarks):
        result.append(distribution(group))
    return result


def bars(group: Group) -> Chart:
    """Return a bar for each median, with a line from the first to the third quartile."""
    stats = [each.stats for each in group.benchmarks]
    kind = group.benchmarks[0].unit
    length, unit = unit_for(min(each.median for each in stats), kind)
    # A bar is named by its position: two may have the same label.
    trace = go.Bar(
        orientation="h",
        x=[each.median / length for each in stats],
        y=list(range(len(stats))),
        marker={"color": [colour(each) for each in group.benchmarks]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [(each.q3 - each.median) / length for each in stats],
            "arrayminus": [(each.median - each.q1) / length for each in stats],
        },
        hovertext=[f"{text(each)}: {amount(each.stats.median, kind)}" for each in group.benchmarks],
        hoverinfo="text",
    )
    names = {
        "tickvals": list(range(len(stats))),
        "ticktext": [text(each) for each in group.benchmarks],
        "automargin": True,
    }
    layout = {
        "xaxis": axis(f"{WHAT[kind]} ({unit})", [each.median for each in stats], zero=True),
        "yaxis": {**names, "autorange": "reversed", "showgrid": False, "zeroline": False},
        "height": 110 + ROW * len(stats),
        "showlegend": False,
    }
    return chart("Median and quartiles", [trace], layout)


def scaling(group: Group) -> Chart:
    """Return a line of medians over ``n`` for each benchmark with several values of it."""
    lines: dict[str, list[Benchmark]] = {}
    for each in group.benchmarks:
        if each.n is not None:
            lines.setdefault(each.name.partition("[")[0], []).append(each)
    everything = [each for line in lines.values() for each in line]
    kind = everything[0].unit
    length, unit = unit_for(min(each.stats.median for each in everything), kind)
    traces, used = [], dict[str, int]()
    for name, line in lines.items():
        points = sorted(line, key=lambda each: each.n or 0)
        traces.append(
            go.Scatter(
                x=[each.n for each in points],
                y=[each.stats.median / length for each in points],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [(each.stats.q3 - each.stats.median) / length for each in points],
                    "arrayminus": [(each.stats.median - each.stats.q1) / length for each in points],
                },
                mode="lines+markers",
                name=escape(name.replace("_", " "), quote=False),
                line=style(points[0], used),
                hovertext=[f"{each.n:g}: {amount(each.stats.median, kind)}" for each in points],
                hoverinfo="text+name",
            )
        )
    values = sorted({each.n for each in everything if each.n is not None})
    name = escape(everything[0].n_name, quote=False)
    layout = {
        "xaxis": {
            **axis(name, values),
            "tickvals": values,
            "ticktext": [f"{value:g}" for value in values],
        },
        "yaxis": axis(
            f"{WHAT[kind]} ({unit})", [each.stats.median for each in everything], zero=True
        ),
        "height": 400,
        "showlegend": True,
    }
    return chart(f"Median and quartiles over {everything[0].n_name}", traces, layout)


def distribution(group: Group) -> Chart:
    """Return the cumulative distribution of the samples of each benchmark with samples."""
    sampled = [each for each in group.benchmarks if each.samples]
    kind = sampled[0].unit
    length, unit = unit_for(min(quantile(each, 0.5) for each in sampled), kind)
    used: dict[str, int] = {}
    traces = [
        go.Scatter(
            x=[sample / length for sample in each.samples],
            y=[100 * (index + 1) / len(each.samples) for index in range(len(each.samples))],
            mode="lines",
            line={**style(each, used), "shape": "hv"},
            name=f"{text(each)}: half within {amount(quantile(each, 0.5), kind)}, "
            f"99 % within {amount(quantile(each, 0.99), kind)}",
            hovertemplate=f"%{{y:.3g}} % within %{{x:.3g}} {unit}<extra></extra>",
        )
        for each in sampled
    ]
    layout = {
        "xaxis": axis(
            f"time ({unit})",
            [sample for each in sampled for sample in (each.samples[0], each.samples[-1])],
        ),
        "yaxis": {"title": {"text": "samples within that time (%)"}, "range": [0, 102]},
        "height": 400,
        "margin": {"l": 60, "r": 20, "t": 60, "b": 60},
        "showlegend": True,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1},
    }
    return chart("Distribution", traces, layout)


def quantile(benchmark: Benchmark, share: float) -> float:
    """Return a quantile of the samples."""
    return benchmark.samples[max(math.ceil(share * len(benchmark.samples)) - 1, 0)]


def axis(title: str, values: list[float], *, zero: bool = False) -> dict[str, Any]:
    """Return an axis for ``values``, logarithmic if they vary widely; ``zero``: else from zero."""
    least, most = min(values), max(values)
    if least > 0 and most / least > WIDE:
        return {
            "title": {"text": title + ", logarithmic"},
            "type": "log",
            "dtick": "D2" if most / least < CROWDED else 1,
        }
    return {"title": {"text": title}, "type": "linear", "rangemode": "tozero" if zero else "normal"}


def text(benchmark: Benchmark) -> str:
    """Return the label of a benchmark with its contender, once; plotly parses it as HTML."""
    name = label(benchmark)
    said = not benchmark.contender or benchmark.contender.partition("-")[0] in name
    return escape(name if said else f"{name} ({benchmark.contender})", quote=False)


def colour(benchmark: Benchmark) -> str:
    """Return the colour of a contender, the same in all charts."""
    return (
        COLOURS.get(benchmark.contender) or OTHERS[sum(benchmark.contender.encode()) % len(OTHERS)]
    )


def style(benchmark: Benchmark, used: dict[str, int]) -> dict[str, str]:
    """Return the style of the next line of a contender; ``used`` counts its lines."""
    count = used[benchmark.contender] = used.get(benchmark.contender, -1) + 1
    return {"color": colour(benchmark), "dash": DASHES[count % len(DASHES)]}


def chart(title: str, traces: list[Any], layout: dict[str, Any]) -> Chart:
    """Return a finished chart. The page sets the colours of its text and grid."""
    figure = go.Figure(
        traces, {"template": "none", "margin": {"l": 60, "r": 20, "t": 20, "b": 60}, **layout}
    )
    config = {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtons": [["toImage", "resetScale2d"]],
    }
    document = {**json.loads(figure.to_json()), "config": config}
    return Chart(title, len(traces), json.dumps(document).replace("<", "\\u003c"))
