"""Charts as inline SVG: no script, no network, text that can be copied. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PALETTE = 8
"""Series 1 to 8 have the style sheet's colours; beyond that they come again, with dashes."""


@dataclass(frozen=True)
class Point:
    """A point of a series, with an interval of y if ``low`` is a number, and what a pointer shows."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclass(frozen=True)
class Series:
    """A named line; ``colour`` counts from 0 and is the method's in every chart of a page."""

    name: str
    points: tuple[Point, ...]
    colour: int


@dataclass(frozen=True)
class Axis:
    """Range and labelled places of an axis."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44


def nice_axis(label: str, values: Sequence[float], percent: bool = True) -> Axis:
    """An axis from 0 to just above the largest finite value, with about five ticks; percent labels for shares."""
    top = max((v for v in values if math.isfinite(v)), default=1.0) or 1.0
    raw = top / 4
    scale = 10 ** math.floor(math.log10(raw))
    step = next(s * scale for s in (1, 2, 2.5, 5, 10) if s * scale >= raw * 0.999)
    count = math.ceil(top / step - 1e-9)
    if percent and count * step > 1 >= top:
        count, step = 4, 0.25
    ticks = tuple((i * step, f"{100 * i * step:.3g}" if percent else f"{i * step:.3g}") for i in range(count + 1))
    return Axis(label, 0.0, count * step, ticks)


def colour_class(index: int) -> str:
    """The style of a series."""
    return f"s{index % PALETTE + 1}" + (" again" if index >= PALETTE else "")


def _frame(x: Axis, y: Axis) -> tuple[list[str], list[float]]:
    """Grid, ticks and labels; and the scale: x offset, x factor, y offset, y factor."""
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    fx, fy = wide / (x.high - x.low), tall / (y.high - y.low)
    parts = []
    for value, label in y.ticks:
        at = TOP + tall - (value - y.low) * fy
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    for value, label in x.ticks:
        at = LEFT + (value - x.low) * fx
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(label)}</text>'
        )
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="label" x="{LEFT + wide / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>'
    )
    middle = TOP + tall / 2
    parts.append(
        f'<text class="label" x="14" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle})">{escape(y.label)}</text>'
    )
    return parts, [LEFT - x.low * fx, fx, base + y.low * fy, -fy]


def line_chart(series: Sequence[Series], x: Axis, y: Axis, title: str, diagonal: bool = False) -> str:
    """Lines with markers, and whiskers where points have intervals; NaN points are left out."""
    parts, (x0, fx, y0, fy) = _frame(x, y)
    if diagonal:
        ends = [f"{x0 + v * fx:.1f},{y0 + v * fy:.1f}" for v in (max(x.low, y.low), min(x.high, y.high))]
        parts.append(f'<polyline class="diagonal" points="{" ".join(ends)}"/>')
    spread = len(series) - 1
    for i, one in enumerate(series):
        points = [p for p in one.points if math.isfinite(p.y) and math.isfinite(p.x)]
        few = len(points) <= 24
        # Whiskers of several methods at one x would hide each other.
        nudge = (i - spread / 2) * 3 if any(math.isfinite(p.low) for p in points) else 0.0
        style = colour_class(one.colour)
        line = " ".join(f"{x0 + p.x * fx + nudge:.1f},{y0 + p.y * fy:.1f}" for p in points)
        parts.append(f'<polyline class="line {style}" points="{line}"/>')
        for p in points if few else ():
            at, up = x0 + p.x * fx + nudge, y0 + p.y * fy
            if math.isfinite(p.low):
                low, high = y0 + max(p.low, y.low) * fy, y0 + min(p.high, y.high) * fy
                parts.append(
                    f'<line class="whisker {style}" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
                )
            note = escape(f"{one.name}: {p.note}" if p.note else one.name)
            parts.append(
                f'<circle class="dot {style}" cx="{at:.1f}" cy="{up:.1f}" r="3.5"><title>{note}</title></circle>'
            )
    return _svg(parts, WIDTH, HEIGHT, title)


def forest(rows: Sequence[tuple[str, Point, int]], axis: Axis, title: str, text: Sequence[str]) -> str:
    """One row per method: name, point with its interval along x, and a text at the end (the number itself).

    Args:
        rows: name, point (x, low and high along x) and colour.
        axis: of x.
        text: what stands at the right of each row.
    """
    wide, gap, left, right = 720, 30, 190, 150
    height = TOP + gap * len(rows) + BOTTOM
    fx = (wide - left - right) / (axis.high - axis.low)
    base = TOP + gap * len(rows)
    parts = []
    for value, label in axis.ticks:
        at = left + (value - axis.low) * fx
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{base + 18}" text-anchor="middle">{escape(label)}</text>')
    middle = left + (wide - left - right) / 2
    parts.append(f'<text class="label" x="{middle}" y="{height - 6}" text-anchor="middle">{escape(axis.label)}</text>')
    for i, ((name, point, colour), tail) in enumerate(zip(rows, text, strict=True)):
        y = TOP + gap * (i + 0.5)
        short = name if len(name) <= 26 else name[:25] + "…"
        parts.append(
            f'<text class="name" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}'
            f"<title>{escape(name)}</title></text>"
        )
        parts.append(f'<text class="tail" x="{wide - right + 10}" y="{y + 4:.1f}">{escape(tail)}</text>')
        if not math.isfinite(point.x):
            continue
        style, at = colour_class(colour), left + (point.x - axis.low) * fx
        if math.isfinite(point.low):
            low, high = (left + (v - axis.low) * fx for v in (max(point.low, axis.low), min(point.high, axis.high)))
            parts.append(f'<line class="whisker {style}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot {style}" cx="{at:.1f}" cy="{y:.1f}" r="5"/>')
    return _svg(parts, wide, height, title)


def _svg(parts: Sequence[str], wide: int, tall: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {wide} {tall}" width="{wide}" role="img" aria-label="{escape(title, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def legend(names: Sequence[tuple[str, int]]) -> str:
    """HTML: a swatch and a name per series."""
    items = "".join(
        f'<span class="key"><i class="swatch {colour_class(colour)}"></i>{escape(name)}</span>'
        for name, colour in names
    )
    return f'<div class="legend">{items}</div>'
