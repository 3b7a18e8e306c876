"""The systems of a comparison as a picture: the mean of a metric, and how sure it is."""

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from encode_once.cache.format.atomic import replacing
from encode_once.cache.terminal import one_line
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.systems.comparison import DataTable, SystemFigure, SystemTables, data_name

WIDTH, MARGIN, STEP, HEAD, AXIS = 720, 24, 40, 34, 44  # of the picture and its parts, in pixels
TICKS = 5  # about as many on the axis
LONGEST = 88  # characters of a system's name
TEXT = 'font-family="system-ui, sans-serif" font-size="13" fill="#222"'
BEST, OTHER = "#0b6bcb", "#777"


@dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows.

    svg: its text, which needs no other file.
    """

    title: str
    svg: str = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write the picture as an SVG file, completely or not at all."""
        with replacing(Path(path)) as temporary:
            temporary.write_text(self.svg, encoding="utf-8", errors="replace")


def picture(tables: SystemTables, metric: MetricName) -> Picture:
    """A line for each system, those of each data set below one another, the best first.

    The point is the mean, the bar the 95 % interval or, of several seeds or folds, the standard deviation.
    """
    parts, y = list[str](), 0
    for table in tables["tables"]:
        parts += _panel(table, metric, y)
        y += HEAD + STEP * len(table["systems"]) + AXIS
    title = f"{metric} of each system"
    return Picture(
        title,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'role="img"><title>{title}</title>'
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>{"".join(parts)}</svg>',
    )


def _ends(shown: SystemFigure) -> tuple[float, float]:
    """Where the bar of a figure begins and ends."""
    if shown["interval"]:
        low, high = shown["interval"]
        return low, high
    spread = shown["sd"] or 0.0
    return shown["mean"] - spread, shown["mean"] + spread


def _panel(table: DataTable, metric: MetricName, top: int) -> Iterator[str]:
    """The systems of a data set."""
    figures = [row["metrics"][metric] for row in table["systems"]]
    ends = [end for shown in figures if shown for end in _ends(shown)] or [0.0, 1.0]
    ticks = list(_ticks(min(ends), max(ends)))
    low, high = min(ticks[0], *ends), max(ticks[-1], *ends)

    def x(value: float) -> float:
        return round(MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN), 1)

    bottom = top + HEAD + STEP * len(figures)
    has_deviations = any(shown and not shown["interval"] and shown["sd"] for shown in figures)
    bar = "standard deviation" if has_deviations else "95 % interval"
    head = f"{data_name(table)}: {metric}; bars: {bar}"
    yield f'<text x="{MARGIN}" y="{top + 20}" {TEXT} font-weight="600">{_text(head)}</text>'
    for value in ticks:
        yield f'<line x1="{x(value)}" x2="{x(value)}" y1="{top + HEAD}" y2="{bottom}" stroke="#ddd"/>'
        yield (
            f'<text x="{x(value)}" y="{bottom + 18}" {TEXT} text-anchor="middle">'
            f"{value:.{_decimals(ticks)}f}</text>"
        )
    for n, (row, shown) in enumerate(zip(table["systems"], figures, strict=True)):
        y = top + HEAD + STEP * n + 28
        number = f"{shown['mean']:.3f}" if shown else "–"
        dagger = " †" if shown and shown["as_good"] and not shown["best"] else ""
        name = f"{number}{dagger}  {row['system']}"
        yield f'<text x="{MARGIN}" y="{y - 10}" {TEXT}>{_text(name)}</text>'
        if shown:
            start, end = map(x, _ends(shown))
            colour = BEST if shown["best"] else OTHER
            yield f'<line x1="{start}" x2="{end}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
            yield f'<circle cx="{x(shown["mean"])}" cy="{y}" r="5" fill="{colour}"/>'


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers from at most the lowest to at least the highest of the figures."""
    span = max(high - low, 1e-3)
    size = 10 ** math.floor(math.log10(span / TICKS))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * TICKS >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    yield from (k * step for k in range(first, max(last, first + 1) + 1))


def _decimals(ticks: list[float]) -> int:
    """How many decimals tell the ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _text(content: str) -> str:
    content = one_line(content)
    return html.escape(content if len(content) <= LONGEST else f"{content[: LONGEST - 1]}…")
