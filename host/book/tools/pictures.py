"""Plots of the tables of speed, and dark twins of pictures.

A table of speed has the columns `work`, `rival` and `ratio`, as those that
`cargo bench --bench table` prints, or those of the chapter on performance. A
ratio is a number, with a range after it or instead: `0.95 (0.90..1.02)`, `0.72 to
0.95`.
"""

import html
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .pages import ROOT, SOURCE, Line, Wrong, headings, read

PICTURES = SOURCE / "pictures"
CHAPTER = SOURCE / "performance.md"
DRAWN = ["architecture"]

LIGHT = {
    "page": "#ffffff",
    "panel": "#f6f8fa",
    "text": "#1f2328",
    "quiet": "#59636e",
    "line": "#d1d9e0",
    "faster": "#0969da",
    "slower": "#bc4c00",
    "guest": "#ddf4ff",
}
DARK = {
    "page": "#0d1117",
    "panel": "#151b23",
    "text": "#f0f6fc",
    "quiet": "#9198a1",
    "line": "#3d444d",
    "faster": "#4493f8",
    "slower": "#f0883e",
    "guest": "#10243e",
}

# Pixels.
LABELS, BARS, VALUES, STEP, TOP, FOOT = 430, 300, 110, 26, 44, 40
WIDTH = LABELS + BARS + VALUES
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
# Both ends of the axis, as powers of two.
FROM, TO = -3, 2.2


class Row(NamedTuple):
    """One comparison: the rival's cost divided by ours, and its range."""

    work: str
    rival: str
    ratio: float
    least: float
    most: float
    shown: str


def rows(lines: list[Line]) -> list[Row]:
    """The comparisons in all tables among these lines."""
    found: list[Row] = []
    columns: dict[str, int] = {}
    for line in lines:
        if not line.text.startswith("|"):
            columns = {}
            continue
        cells = [cell.strip() for cell in line.text.strip().strip("|").split("|")]
        if not columns:
            names = {name: index for index, name in enumerate(cells)}
            columns = names if {"work", "rival", "ratio"} <= set(names) else {"none": 0}
        elif "ratio" in columns and not set(cells[0]) <= {"-", ":"}:
            ratio = cells[columns["ratio"]]
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", ratio)]
            if not numbers:
                continue
            work, rival = (re.sub(r"[`*]", "", cells[columns[name]]) for name in ("work", "rival"))
            shown = ratio.partition("(")[0].strip()
            # Of a range without a number, the worse end.
            found.append(Row(work, rival.partition(":")[0], numbers[0], min(numbers), max(numbers), shown))
    return found


def place(ratio: float) -> float:
    power = min(max(math.log2(ratio), FROM), TO)
    return LABELS + BARS * (power - FROM) / (TO - FROM)


def plot(comparisons: list[Row], title: str, colors: dict[str, str]) -> str:
    """Draws a bar for each comparison, from 1 to its ratio, on a logarithmic axis."""
    if not comparisons:
        raise Wrong(f"{title}: no table with the columns work, rival and ratio")
    height = TOP + STEP * len(comparisons) + FOOT
    bottom = TOP + STEP * len(comparisons)
    one = place(1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="{FONT}" font-size="12">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{colors["page"]}"/>',
        text(12, 22, title, colors["text"], 'font-size="14" font-weight="600"'),
    ]
    for power in range(FROM, 3):
        x = place(2.0**power)
        color, width = (colors["quiet"], 1.5) if power == 0 else (colors["line"], 1)
        name = f"1/{2**-power}" if power < 0 else f"{2**power}"
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{color}" stroke-width="{width}"/>'
        )
        parts.append(text(x, bottom + 15, name, colors["quiet"], 'font-size="11" text-anchor="middle"'))
    for index, row in enumerate(comparisons):
        middle = TOP + STEP * index + STEP / 2
        color = colors["faster" if row.ratio >= 1 else "slower"]
        label = f'<tspan fill="{colors["quiet"]}"> against {html.escape(row.rival)}</tspan>' if row.rival else ""
        parts.append(
            f'<text x="{LABELS - 10}" y="{middle + 4}" fill="{colors["text"]}" text-anchor="end">'
            f"{html.escape(row.work)}{label}</text>"
        )
        begin, end = sorted((one, place(row.ratio)))
        parts.append(
            f'<rect x="{begin:.1f}" y="{middle - 7}" width="{max(end - begin, 1.5):.1f}" height="14" rx="2" fill="{color}"/>'
        )
        if row.least < row.most:
            parts.append(
                f'<line x1="{place(row.least):.1f}" y1="{middle}" x2="{place(row.most):.1f}" y2="{middle}" '
                f'stroke="{colors["text"]}" stroke-width="2"/>'
            )
        x = max(place(row.most), one) + 8
        parts.append(text(x, middle + 4, row.shown, colors["text"]))
    note = "slower ← the rival’s CPU time divided by netwasm’s → faster"
    parts.append(text(one, bottom + 33, note, colors["quiet"], 'font-size="11" text-anchor="middle"'))
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, content: str, color: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{color}" {more}>{html.escape(content)}</text>'


def darkened(picture: str) -> str:
    """The picture with the colours of the dark palette."""
    for name, color in LIGHT.items():
        picture = picture.replace(color, DARK[name])
    return picture


def all_pictures() -> Iterator[tuple[Path, str]]:
    """Each picture that is made of something else, with what it should be."""
    chapter = read(CHAPTER)
    parts = [(index, title, name) for index, level, title, name in headings(chapter) if level == 2]
    ends = [index for index, *_ in parts[1:]] + [len(chapter)]
    plots = [("speed", "CPU time per operation", rows(read(ROOT / "README.md")))]
    for (begin, title, name), end in zip(parts, ends):
        if comparisons := rows(chapter[begin:end]):
            plots.append((f"speed-{name}", title, comparisons))
    for name, title, comparisons in plots:
        yield PICTURES / f"{name}.svg", plot(comparisons, title, LIGHT)
        yield PICTURES / f"{name}-dark.svg", plot(comparisons, title, DARK)
    for name in DRAWN:
        yield PICTURES / f"{name}-dark.svg", darkened((PICTURES / f"{name}.svg").read_text())


def are_current() -> None:
    """Checks that the pictures are those of the tables, and README's rows the chapter's."""
    known = rows(read(CHAPTER))
    for row in rows(read(ROOT / "README.md")):
        if row not in known:
            raise Wrong(f"README.md: the chapter on performance has no row {row.work}, {row.rival}, {row.shown}")
    for path, content in all_pictures():
        if not path.exists() or path.read_text() != content:
            raise Wrong(f"{path.relative_to(ROOT)} is not what host/book/draw makes")
