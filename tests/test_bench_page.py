"""The page of ``pylinker bench`` in headless Chromium: every chart is drawn, without errors."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench_runs import BROKEN, CALL, FAILED, LATENCY, SCALING, SKIPPED, made_up, measured
from pylinker.bench import results
from pylinker.bench.report import page

pytestmark = pytest.mark.slow

DEADLINE = 120  # seconds; only a hang takes that long
VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "param",
    "source",
    "track",
    "wbr",
}
HOSTILE = "</script><script>throw 1</script><img src=x onerror='throw 2'> & <b>bold</b> \" ' &lt;"


class Charts(HTMLParser):
    """Counts in each chart of a page: declared traces, images, drawn traces, points; its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[tuple[str, set[str]]] = []
        self.counts: list[Counter[str]] = []
        self.texts: list[str] = []
        self.feed(document)

    def inside(self, name: str) -> bool:
        """Return whether an element of this class is open."""
        return any(name in classes for _, classes in self.open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        if "chart" in classes:
            self.counts.append(Counter(declared=int(attributes["data-traces"] or 0)))
            self.texts.append("")
        elif self.inside("chart"):
            self.counts[-1]["pictures"] += tag == "svg" and "main-svg" in classes
            self.counts[-1]["traces"] += tag == "g" and "trace" in classes
            self.counts[-1]["bars"] += (
                tag == "path"
                and self.inside("bars")
                and self.inside("point")
                and bool(attributes.get("d"))
            )
            self.counts[-1]["lines"] += (
                tag == "path"
                and "js-line" in classes
                and self.inside("trace")
                and bool(attributes.get("d"))
            )
            self.counts[-1]["spreads"] += (
                tag == "path" and bool(classes & {"xerror", "yerror"}) and bool(attributes.get("d"))
            )
        if tag not in VOID:
            self.open.append((tag, classes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside("chart"):
            self.texts[-1] += data + "\n"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command that opens a page, with a profile of its own."""
    found = shutil.which("chromium")
    if found is None:
        assert os.environ.get("CI") != "true", (
            "chromium is required in CI: apt-get install chromium"
        )
        pytest.skip("chromium is not installed")
    profile = tmp_path_factory.mktemp("chromium")
    yield [
        found,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ]
    shutil.rmtree(profile, ignore_errors=True)


def draw(chromium: list[str], path: Path, *options: str) -> tuple[str, list[str]]:
    """Return Chromium's document of a page, and its console with errors and refused loads."""
    # Virtual time: as long as something is to be done it does not pass, so this is no wait.
    command = [
        *chromium,
        "--virtual-time-budget=30000",
        "--enable-logging=stderr",
        *options,
        "--dump-dom",
        path.as_uri(),
    ]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    return opened.stdout, [line for line in opened.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn(chromium: list[str], tmp_path: Path, scheme: str) -> None:
    run = made_up(skipped=(SKIPPED,), failed=(FAILED, BROKEN))
    path = tmp_path / "page.html"
    path.write_text(page(run, results.compare(run, run)), encoding="utf-8")
    document, console = draw(
        chromium, path, f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    )
    assert console == []
    declared = re.search(r'<html[^>]* data-charts="(\d+)"', document)
    assert declared
    drawn = Charts(document)
    assert len(drawn.counts) == int(declared[1]) == 5
    assert all(count["pictures"] >= 1 for count in drawn.counts)
    assert [(count["traces"], count["declared"]) for count in drawn.counts] == [
        (1, 1),
        (1, 1),
        (2, 2),
        (1, 1),
        (2, 2),
    ]
    assert [(count["bars"], count["lines"], count["spreads"]) for count in drawn.counts] == [
        (3, 0, 3),  # the contenders of a call
        (6, 0, 6),  # two contenders among three numbers of threads,
        (0, 2, 6),  # and their lines
        (2, 0, 2),  # latency,
        (0, 2, 0),  # and its distribution
    ]
    call, _, scaling, _, latency = drawn.texts
    assert {"pylinker", "wasmtime", "bare call", "time of one call (µs)"} <= set(call.splitlines())
    assert {"pylinker", "barrier", "threads", "1", "2", "4", "time of one call (ms)"} <= set(
        scaling.splitlines()
    )
    assert "pylinker: half within 50 µs, 99 % within 99 µs" in latency
    assert "samples within that time (%)" in latency
    assert ("rgb(22, 24, 27)" in document) == (scheme == "dark")  # the background of the charts


def test_names_are_only_text(chromium: list[str], tmp_path: Path) -> None:
    group = dataclasses.replace(
        SCALING,
        name=HOSTILE,
        benchmarks=tuple(
            measured(
                f"{HOSTILE}[{n}]",
                1e-3 * n,
                HOSTILE,
                n=n,
                n_name=HOSTILE,
                baseline=True,
                samples=(1e-3, 2e-3),
            )
            for n in (1, 2)
        ),
    )
    facts = dataclasses.replace(made_up().facts, cpu=HOSTILE)
    absent = dataclasses.replace(FAILED, group=HOSTILE, name=HOSTILE, reason=HOSTILE)
    run = made_up(group, facts=facts, failed=(absent, dataclasses.replace(absent, file=group.file)))
    path = tmp_path / "page.html"
    path.write_text(page(run), encoding="utf-8")
    document, console = draw(chromium, path)
    assert console == []
    drawn = Charts(document)
    assert [count["traces"] for count in drawn.counts] == [1, 1, 2]
    assert all("<b>bold</b>" in text for text in drawn.texts)
    assert not re.search(
        r"<b>|<img|<tspan style=\"font-weight",
        re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL),
    )


def test_the_page_needs_nothing_else() -> None:
    text = page(made_up(CALL, LATENCY))
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=|url\(|@import", markup)
    assert "default-src 'none'" in markup


@pytest.mark.parametrize(
    "body",
    [
        "console.error('boom')",
        "null.x",
        "Promise.reject(Error('boom'))",
        "document.body.append(new Image()).src = 'http://localhost:1/x'",
    ],
)
def test_errors_would_be_seen(chromium: list[str], tmp_path: Path, body: str) -> None:
    """The check above would notice them: what the console says reaches it."""
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><body><script>{body}</script>", encoding="utf-8")
    assert len(draw(chromium, path)[1]) == 1
