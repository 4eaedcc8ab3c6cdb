"""Drawing a graph of modules as SVG: boxes in columns, users on the left of the modules they use.

The layout is grandalf's: layers after Sugiyama, with boxes of any size and lines that are routed
around them. It is pure Python and needs no external program, as Graphviz would be. Its layers are
from top to bottom, so the layout is transposed: names are long, and would make rows of thirty boxes
very wide.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pylinker.cli.output import printable

__all__ = ["Box", "Line", "draw"]

Point: TypeAlias = tuple[float, float]

CHARACTER, ROW, PADDING, MARGIN = 7.3, 16.0, 9.0, 20.0  # pixels, of a font of 12
BETWEEN_COLUMNS, BETWEEN_BOXES, BESIDE = 110.0, 18.0, 10.0
STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #1c2733 }
.title { font-weight: bold }
.detail { fill: #566573 }
.box { fill: #f4f7fa; stroke: #5b7083; stroke-width: 1.2 }
.main { fill: #e3eefb; stroke: #24609c; stroke-width: 1.8 }
.bad { fill: #fdecea; stroke: #b3261e }
.line { fill: none; stroke: #5b7083; stroke-width: 1.2 }
.needed { stroke-dasharray: 5 4 }
.count { fill: #24609c; text-anchor: middle }
.back { fill: #ffffff }
"""


@dataclass(frozen=True)
class Box:
    """A box: a key for lines, its text (the first line is the title), and its kind.

    The kind is ``main``, ``bad`` or empty.
    """

    key: str
    texts: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """A line from a box to another, with a label; dashed if only ``needed`` relates them."""

    start: str
    end: str
    label: str
    title: str
    needed: bool


class _View:
    """A box for grandalf: its size and, after the layout, its middle, both transposed."""

    def __init__(self, width: float, height: float) -> None:
        self.w, self.h = height, width
        self.xy: Point = (0.0, 0.0)


class _Path:
    """A line for grandalf: the points that it goes through."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._pts: list[Point] = []  # grandalf's own name, during the layout

    def setpath(self, points: Sequence[Point]) -> None:
        """Set the points; called by grandalf."""
        self.points = list(points)


def draw(boxes: Sequence[Box], lines: Sequence[Line]) -> str:
    """Return the graph as an SVG document. ModuleNotFoundError without grandalf."""
    views = {box.key: _View(_width(box), _height(box)) for box in boxes}
    paths = _place(views, lines)
    places = {
        key: (view.xy[1] - view.h / 2, view.xy[0] - view.w / 2, view.h, view.w)
        for key, view in views.items()
    }
    right = max((x + width for x, _, width, _ in places.values()), default=0.0)
    bottom = max((y + height for _, y, _, height in places.values()), default=0.0)
    right = max([right, *[x for path in paths for x, _ in path]]) + MARGIN
    bottom = max([bottom, *[y for path in paths for _, y in path]]) + MARGIN
    root = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=f"{right:.0f}", height=f"{bottom:.0f}"
    )
    root.set("viewBox", f"0 0 {right:.0f} {bottom:.0f}")
    ET.SubElement(root, "style").text = STYLE
    marker = ET.SubElement(
        root,
        "marker",
        id="arrow",
        viewBox="0 0 8 8",
        refX="8",
        refY="4",
        markerWidth="8",
        markerHeight="8",
        orient="auto",
    )
    ET.SubElement(marker, "path", d="M0 0 L8 4 L0 8 z", fill="#5b7083")
    drawn: set[tuple[str, str]] = set()
    for line, path in zip(lines, paths, strict=True):
        points = _between(path, places[line.start], places[line.end])
        if (line.end, line.start) in drawn:  # shifted beside the opposite line
            points = [(x, y + BESIDE) for x, y in points]
        drawn.add((line.start, line.end))
        _add_line(root, line, points)
    for box in boxes:
        _add_box(root, box, places[box.key])
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _width(box: Box) -> float:
    return max(len(printable(text)) for text in box.texts) * CHARACTER + 2 * PADDING


def _height(box: Box) -> float:
    return len(box.texts) * ROW + 2 * PADDING


def _place(views: dict[str, _View], lines: Sequence[Line]) -> list[list[Point]]:
    """Place every view, connected parts of the graph one below the other; return the lines."""
    # Imported here, as the other commands work without the extra.
    from grandalf.graphs import Edge, Graph, Vertex  # noqa: PLC0415
    from grandalf.layouts import SugiyamaLayout  # noqa: PLC0415

    vertices: dict[str, Any] = {key: Vertex(key) for key in views}
    for key, vertex in vertices.items():
        vertex.view = views[key]
    edges: dict[tuple[str, str], Any] = {}
    for start, end in _without_cycles(list(views), lines):
        edges[start, end] = Edge(vertices[start], vertices[end])
        edges[start, end].view = _Path()
    order = {key: number for number, key in enumerate(views)}
    top = MARGIN
    parts = Graph(list(vertices.values()), list(edges.values())).C
    for part in sorted(parts, key=lambda each: min(order[vertex.data] for vertex in each.sV)):
        members = sorted(part.sV, key=lambda vertex: order[vertex.data])
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace = BETWEEN_BOXES, BETWEEN_COLUMNS
        layout.init_all(
            roots=[vertex for vertex in members if not vertex.e_in()], inverted_edges=[]
        )
        layout.draw(8)
        _move(members, [edge.view for edge in part.sE], top)
        top = max(vertex.view.xy[0] + vertex.view.w / 2 for vertex in members) + 2 * BETWEEN_BOXES
    paths = []
    for line in lines:
        edge = edges.get((line.start, line.end))
        if edge is not None:
            paths.append([(y, x) for x, y in edge.view.points])
        else:  # the route of its opposite
            paths.append([(y, x) for x, y in reversed(edges[line.end, line.start].view.points)])
    return paths


def _without_cycles(keys: Sequence[str], lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return each connected pair of boxes once, in directions that make no cycle."""
    ends: dict[str, list[str]] = {key: [] for key in keys}
    for line in lines:
        ends[line.start].append(line.end)
    finished: dict[str, int] = {}
    for root in keys:
        stack = [] if root in finished else [(root, iter(ends[root]))]
        entered = {root}
        while stack:  # not recursive: a chain of libraries may exceed Python's stack
            key, rest = stack[-1]
            following = next(
                (each for each in rest if each not in finished and each not in entered), None
            )
            if following is None:
                stack.pop()
                finished[key] = len(finished)
            else:
                entered.add(following)
                stack.append((following, iter(ends[following])))
    # The order from left to right is the reverse of the order in which a depth-first search of the
    # graph without cycles finishes.
    turned = [
        (line.start, line.end)
        if finished[line.start] > finished[line.end]
        else (line.end, line.start)
        for line in lines
    ]
    return list(dict.fromkeys(turned))


def _move(members: Sequence[Any], paths: Sequence[_Path], top: float) -> None:
    """Move a part to ``top`` and to the margin; lines may be outside of the boxes."""
    corners = [
        (vertex.view.xy[0] - vertex.view.w / 2, vertex.view.xy[1] - vertex.view.h / 2)
        for vertex in members
    ]
    corners += [point for path in paths for point in path.points]
    right, down = top - min(x for x, _ in corners), MARGIN - min(y for _, y in corners)
    for vertex in members:
        x, y = vertex.view.xy
        vertex.view.xy = (x + right, y + down)
    for path in paths:
        path.points = [(x + right, y + down) for x, y in path.points]


def _between(
    path: Sequence[Point], start: tuple[float, ...], end: tuple[float, ...]
) -> list[Point]:
    """Return a line from the edge of a box to that of another, through the points between them."""
    inner = list(path[1:-1])
    first, last = _middle(start), _middle(end)
    return [
        _edge(start, inner[0] if inner else last),
        *inner,
        _edge(end, inner[-1] if inner else first),
    ]


def _middle(place: tuple[float, ...]) -> Point:
    x, y, width, height = place
    return x + width / 2, y + height / 2


def _edge(place: tuple[float, ...], towards: Point) -> Point:
    """Return the point in which a line from the middle of a box leaves it."""
    x, y = _middle(place)
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(
        (size / 2 / abs(delta) for size, delta in ((place[2], dx), (place[3], dy)) if delta),
        default=0.0,
    )
    return x + dx * min(1.0, scale), y + dy * min(1.0, scale)


def _add_line(root: ET.Element, line: Line, points: Sequence[Point]) -> None:
    group = ET.SubElement(root, "g", {"class": "edge"})
    ET.SubElement(group, "title").text = printable(line.title)
    shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    kind = "line needed" if line.needed else "line"
    ET.SubElement(group, "polyline", {"class": kind, "points": shape, "marker-end": "url(#arrow)"})
    if line.label:
        (x1, y1), (x2, y2) = (
            points[0],
            points[1],
        )  # near its start, where lines to one box are still separate
        x, y = x1 + (x2 - x1) / 3, y1 + (y2 - y1) / 3
        width = len(line.label) * CHARACTER + 4
        back = {
            "x": f"{x - width / 2:.1f}",
            "y": f"{y - 7:.1f}",
            "width": f"{width:.1f}",
            "height": "14",
        }
        ET.SubElement(group, "rect", {"class": "back", **back})
        label = ET.SubElement(
            group, "text", {"class": "count", "x": f"{x:.1f}", "y": f"{y + 4:.1f}"}
        )
        label.text = printable(line.label)


def _add_box(root: ET.Element, box: Box, place: tuple[float, ...]) -> None:
    x, y, width, height = place
    group = ET.SubElement(root, "g", {"class": "node"})
    ET.SubElement(
        group,
        "rect",
        {
            "class": f"box {box.kind}".strip(),
            "x": f"{x:.1f}",
            "y": f"{y:.1f}",
            "width": f"{width:.1f}",
            "height": f"{height:.1f}",
            "rx": "5",
        },
    )
    for number, text in enumerate(box.texts):
        kind = "detail" if number else "title"
        line = ET.SubElement(
            group,
            "text",
            {
                "class": kind,
                "x": f"{x + PADDING:.1f}",
                "y": f"{y + PADDING + ROW * (number + 0.75):.1f}",
            },
        )
        line.text = printable(text)
