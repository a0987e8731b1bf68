"""``summary.json`` as Markdown, and as one HTML page that needs nothing but itself: no script, no network."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from diffvas.bench.charts import Axis, Point, Series, forest, legend, line_chart, nice_axis
from diffvas.bench.pictures import COLOURS
from diffvas.bench.score import few
from diffvas.bench.storage import read_json

Line = dict[str, Any]
UNIT = tuple((v / 100, f"{v}") for v in (0, 20, 40, 60, 80, 100))
DASH = "–"


def read_summary(folder: str | Path) -> Line:
    """``summary.json`` of a folder of scores: of masks, or with the key ``boxes`` (for ``box_page``).

    Raises:
        ValueError: no such file, or another layout.
    """
    path = Path(folder) / "summary.json"
    if not path.is_file():
        raise ValueError(f"folder: expected a folder of scores, looked for '{path}', found no such file")
    summary = read_json(path)
    known = ({"protocol", "methods", "differences"}, {"boxes"})
    if not isinstance(summary, dict) or not any(keys <= summary.keys() for keys in known):
        raise ValueError(f"folder: expected protocol, methods and differences in '{path}', got another layout")
    return summary


def number(value: Any) -> float:
    """A number of a summary: null is nan."""
    return math.nan if value is None else float(value)


def percent(value: Any) -> str:
    """A share as a percentage with one place; a dash for nan."""
    value = number(value)
    return DASH if math.isnan(value) else f"{100 * value:.1f}"


def _range(line: Line, key: str) -> str:
    low, high = number(line[f"{key}_low"]), number(line[f"{key}_high"])
    return "" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def _gain(line: Line | None, key: str) -> tuple[str, str]:
    if line is None or math.isnan(number(line[key])):
        return DASH, ""
    return f"{100 * line[key]:+.1f}", f"{100 * line[f'{key}_low']:+.1f} to {100 * line[f'{key}_high']:+.1f}"


def _bytes(value: Any) -> str:
    return DASH if value is None else f"{value / 2**30:.2f} GiB"


def _seconds(value: Any) -> str:
    value = number(value)
    return DASH if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3g}"


def _rows(summary: Line) -> list[list[tuple[str, str]]]:
    """The main table: per method, cells of (text, small text)."""
    differences = {line["method"]: line for line in summary["differences"]}
    rows = []
    for m in summary["methods"]:
        gain = differences.get(m["name"])
        against = f"to {gain['baseline']}" if gain else ""
        value, span = _gain(gain, "miou_occ")
        rows.append(
            [
                (m["name"], ""),
                (percent(m["miou"]), _range(m, "miou")),
                (percent(m["miou_occ"]), _range(m, "miou_occ")),
                (value, f"{span}\n{against}" if value != DASH else ""),
                (percent(m["miou_occ_fully_hidden"]), ""),
                (percent(m["miou_clip"]), ""),
                (percent(m["miou_occ_clip"]), ""),
                (str(m["frames"]), ""),
                (str(m["frames_occ"]), ""),
                (_seconds(m["runtime"]["seconds_per_clip"]), ""),
                (_bytes(m["runtime"]["peak_bytes"]), ""),
            ]
        )
    return rows


HEAD = (
    *("method", "mIoU", "mIoU_occ", "difference", "fully hidden", "mIoU, clips", "mIoU_occ, clips"),
    *("frames", "hidden", "s / clip", "memory"),
)


def markdown(summary: Line) -> str:
    """The main table and what is missing, in Markdown."""
    rules = summary["protocol"]
    lines = [f"# Scores: `{rules['name']}` protocol, {summary['clips']} clips", "", f"{_about(rules)}", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in _rows(summary):
        cells = [f"{text} ({small})".replace("\n", ", ") if small else text for text, small in row]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", _how(summary), ""]
    for warning in _warnings(summary):
        lines += [f"- **{warning}**"]
    if made := _made_rows(summary):
        lines += ["", "| " + " | ".join(MADE) + " |", "|" + "---|" * len(MADE)]
        lines += ["| " + " | ".join(text for text, _ in row) + " |" for row in made]
        lines += ["", _equal(summary)]
    return "\n".join(lines).rstrip() + "\n"


def _about(rules: Line) -> str:
    return f"Protocol {rules['name']}: {rules['about']}."


def _how(summary: Line) -> str:
    return (
        "Scores in percent, means over frames unless they say clips. Ranges are 95 % bootstrap intervals over clips. "
        "“difference” is that of mIoU_occ to another method on the same clips, drawn in pairs. “hidden” is the number "
        f"of frames behind mIoU_occ. diffvas {summary['version']}."
    )


def warnings_of(methods: Sequence[Line]) -> list[str]:
    """What was missing, and what was too much, a sentence each."""
    out = []
    for m in methods:
        problems = m["problems"]
        if problems["missing"]:
            first = few(problems["missing"])
            out.append(
                f"{m['name']}: {len(problems['missing'])} of {problems['wanted']} frames had no prediction and were "
                f"scored as empty: {first}"
            )
        if problems["extra"]:
            out.append(
                f"{m['name']}: {len(problems['extra'])} predictions without truth, left out: {few(problems['extra'])}"
            )
    return out


def _warnings(summary: Line) -> list[str]:
    out = warnings_of(summary["methods"])
    counts = {m["frames_occ"] for m in summary["methods"]}
    if len(counts) > 1:
        out.append(
            f"This protocol averages mIoU_occ over different frames for each method ({min(counts)} to {max(counts)}): "
            "methods that miss more are compared on fewer."
        )
    return out


# ---------------------------------------------------------------------------------------------------------------------
# the page


def html_page(summary: Line, folder: str | Path | None = None, title: str = "") -> str:
    """The whole page.

    Args:
        summary: see :func:`read_summary`.
        folder: where the pictures that the summary names are; they are put into the page.
        title: of the page.
    """
    rules = summary["protocol"]
    title = title or f"Video amodal segmentation: {summary['clips']} clips, {rules['name']} protocol"
    colours = {m["name"]: i for i, m in enumerate(summary["methods"])}
    sections: list[Callable[[Line, dict[str, int]], str]] = [
        _main_section,
        _visibility_section,
        _topk_section,
        _probability_section,
        _steadiness_section,
        _made_section,
    ]
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(_about(rules))}</p>']
    if warnings := _warnings(summary):
        body.append('<div class="warn">' + "".join(f"<p>{escape(text)}</p>" for text in warnings) + "</div>")
    body += [section(summary, colours) for section in sections]
    body.append(_example_section(summary, None if folder is None else Path(folder)))
    body.append(_rules_section(summary))
    return whole_page(title, body)


def whole_page(title: str, body: Sequence[str]) -> str:
    """A page of its own from its parts in HTML."""
    template = resources.files("diffvas.bench").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(part for part in body if part))


def table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], best: int | None = None) -> str:
    """An HTML table; ``best`` is the row that stands out."""
    out = ["<tr>" + "".join(f"<th>{escape(text)}</th>" for text in head) + "</tr>"]
    for i, row in enumerate(rows):
        cells = "".join(
            f"<td>{escape(text)}" + (f'<span class="range">{_unbroken(small)}</span>' if small else "") + "</td>"
            for text, small in row
        )
        out.append(f"<tr{' class=best' if i == best else ''}>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(out)}</table></div>'


def _unbroken(text: str) -> str:
    """HTML in which a line never ends inside "1.2 to 3.4", and does at line breaks."""
    return re.sub(r"(?<=\d) to (?=[+-]?\d)", "&nbsp;to&nbsp;", escape(text)).replace("\n", "<br>")


MADE = ("method", "fitted on", "steps", "batch", "examples", "frames", "size", "seed", "weights")


def _fits(summary: Line) -> list[tuple[str, Line]]:
    """The methods of which it is known that they were fitted, and how; empty = on other data."""
    made = [(m["name"], m.get("made") or {}) for m in summary["methods"]]
    return [(name, one) for name, one in made if one.get("fitted") is not None]


def _made_rows(summary: Line) -> list[list[tuple[str, str]]]:
    """How the fitted methods were fitted."""
    rows = []
    for name, made in _fits(summary):
        fitted, weights = made["fitted"], str(made.get("weights", ""))[:8]
        if not fitted:
            cells = [name, "other data, elsewhere", *[DASH] * 6, weights]
        else:
            data, steps = fitted["data"], fitted["steps"]
            examples = f"{steps * fitted['batch']:,}" if steps else DASH
            size = " × ".join(map(str, data["size"]))
            amount = str(steps) if steps else f"{fitted['seconds']:g} s"
            numbers = [amount, str(fitted["batch"]), examples, str(data["frames"]), size, str(fitted["seed"])]
            cells = [name, str(data["source"]), *numbers, weights]
        rows.append([(cell, "") for cell in cells])
    return rows


def _equal(summary: Line) -> str:
    """Whether the methods fitted here saw the same."""
    keys = ("data", "steps", "seconds", "batch", "seed")
    seen = {name: [one["fitted"][key] for key in keys] for name, one in _fits(summary) if one["fitted"]}
    if len(seen) < 2:
        return ""
    first, *others = seen.values()
    if first[1] and all(other == first for other in others):
        return f"{', '.join(seen)}: the same examples in the same order, equally many of them."
    return f"{', '.join(seen)} were not fitted on equal data: their scores say little about the methods."


def _made_section(summary: Line, colours: dict[str, int]) -> str:
    rows = _made_rows(summary)
    if not rows:
        return ""
    return f'<h2>What they were fitted on</h2>{table(MADE, rows)}<p class="note">{escape(_equal(summary))}</p>'


def _best(summary: Line) -> int | None:
    values = [number(m["headline_miou_occ"]) for m in summary["methods"]]
    finite = [v for v in values if not math.isnan(v)]
    return values.index(max(finite)) if finite and len(values) > 1 else None


def _main_section(summary: Line, colours: dict[str, int]) -> str:
    suffix = "_clip" if summary["protocol"]["average"] == "clips" else ""
    rows, text = [], []
    for m in sorted(summary["methods"], key=lambda m: -(-1 if m["miou_occ"] is None else m["miou_occ"])):
        spans = ("miou_occ_low", "miou_occ_high") if not suffix else ("", "")
        low, high = (number(m.get(key)) for key in spans)
        rows.append((m["name"], Point(number(m[f"miou_occ{suffix}"]), 0, low, high), colours[m["name"]]))
        text.append(percent(m[f"miou_occ{suffix}"]) + ("" if math.isnan(low) else f"  ({_range(m, 'miou_occ')})"))
    tops = [p.high if math.isfinite(p.high) else p.x for _, p, _ in rows]
    plot = forest(rows, nice_axis("mIoU_occ, %", tops), "mIoU_occ of every method with its interval", text)
    runtime = any(not math.isnan(number(m["runtime"]["seconds_per_clip"])) for m in summary["methods"])
    shown = len(HEAD) - (0 if runtime else 2)
    return (
        "<h2>The hidden part: mIoU_occ</h2>"
        f'<figure class="full">{plot}<figcaption>95 % bootstrap intervals over clips.</figcaption></figure>'
        f"<h2>All scores</h2>{table(HEAD[:shown], [r[:shown] for r in _rows(summary)], _best(summary))}"
        f'<p class="note">{escape(_how(summary))}</p>'
    )


def _figure(chart: str, heading: str, caption: str = "") -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(heading)}</h3>{chart}{below}</figure>"


def _visibility_section(summary: Line, colours: dict[str, int]) -> str:
    figures = []
    bins = summary["methods"][0]["visibility"]
    ticks = tuple((i, f"{b['low']:.1f}–{b['high']:.1f} ({b['clips']})") for i, b in enumerate(bins))
    for key, name in (("miou_occ", "mIoU_occ"), ("miou", "mIoU")):
        series = []
        for m in summary["methods"]:
            points = tuple(
                Point(
                    i,
                    number(b[key]),
                    number(b[f"{key}_low"]),
                    number(b[f"{key}_high"]),
                    f"{percent(b[key])} ({_range(b, key)}), {b['clips']} clips",
                )
                for i, b in enumerate(m["visibility"])
            )
            series.append(Series(m["name"], points, colours[m["name"]]))
        x = Axis("mean visibility of the clip (number of clips)", -0.4, len(bins) - 0.6, ticks)
        y = Axis(f"{name}, %", 0.0, 1.0, UNIT)
        figures.append(_figure(line_chart(series, x, y, f"{name} over visibility"), f"{name} over visibility"))
    return f'<h2>How much was visible</h2>{_legend(colours)}<div class="row">{"".join(figures)}</div>'


def _legend(colours: dict[str, int]) -> str:
    return legend(list(colours.items()))


def _topk_section(summary: Line, colours: dict[str, int]) -> str:
    methods = [m for m in summary["methods"] if m["topk"]["miou_occ"]]
    if not methods:
        return ""
    kinds = (("per_frame", "best sample of each frame"), ("per_clip", "best sample of the whole clip"))
    most = max(len(m["topk"]["miou_occ"]) for m in methods)
    values = [p[kind] for m in methods for p in m["topk"]["miou_occ"] for kind, _ in kinds]
    ks = [k for k in range(1, most + 1) if most <= 10 or k == 1 or k % (-(-most // 10)) == 0]
    x = Axis("samples K", 0.5, most + 0.5, tuple((k, str(k)) for k in ks))
    figures = []
    for kind, caption in kinds:
        series = [
            Series(
                m["name"],
                tuple(Point(p["k"], p[kind], note=f"K = {p['k']}: {percent(p[kind])}") for p in m["topk"]["miou_occ"]),
                colours[m["name"]],
            )
            for m in methods
        ]
        chart = line_chart(series, x, nice_axis("mIoU_occ, %", values), f"mIoU_occ of the {caption}")
        figures.append(_figure(chart, f"Top-K, {caption}"))
    return (
        "<h2>Top-K</h2><p>The truth chooses the best of the first K samples, so this bounds a method and does not "
        "measure it. Only the best of a whole clip is a video that a method has made.</p>"
        f'{_legend({m["name"]: colours[m["name"]] for m in methods})}<div class="row">{"".join(figures)}</div>'
    )


def _probability_section(summary: Line, colours: dict[str, int]) -> str:
    methods = [m for m in summary["methods"] if m["probability"]]
    if not methods:
        return ""
    calibration, risk = [], []
    for m in methods:
        p = m["probability"]
        points = tuple(
            Point(b["probability"], b["share"], note=f"says {percent(b['probability'])}, is {percent(b['share'])}")
            for b in p["reliability"]
        )
        calibration.append(Series(m["name"], points, colours[m["name"]]))
        surest = [[0.0, p["risk_coverage"][0][1]], *p["risk_coverage"]]
        risk.append(Series(m["name"], tuple(Point(x, y) for x, y in surest), colours[m["name"]]))
    x, y = Axis("probability said, %", 0, 1, UNIT), Axis("pixels that are the object's, %", 0, 1, UNIT)
    figures = [
        _figure(line_chart(calibration, x, y, "reliability", True), "Reliability", "On the diagonal is best."),
        _figure(
            line_chart(
                risk,
                Axis("surest pixels kept, %", 0, 1, UNIT),
                nice_axis("wrong among them, %", [q.y for s in risk for q in s.points]),
                "risk over coverage",
            ),
            "Risk over coverage",
            "Low on the left is best: what the method is sure of is right.",
        ),
    ]
    head = ("method", "Brier", "calibration error", "area under risk", "pixels")
    rows = [
        [
            (m["name"], ""),
            (f"{m['probability']['brier']:.4f}", ""),
            (f"{m['probability']['ece']:.4f}", ""),
            (f"{m['probability']['aurc']:.4f}", ""),
            (f"{m['probability']['pixels']:,}", ""),
        ]
        for m in methods
    ]
    return (
        "<h2>Probabilities</h2><p>Asked of the pixels in the object’s true box, doubled, less what is visible. "
        "All three measures are better when lower.</p>"
        f'{_legend({m["name"]: colours[m["name"]] for m in methods})}<div class="row">{"".join(figures)}</div>'
        + table(head, rows)
    )


def _steadiness_section(summary: Line, colours: dict[str, int]) -> str:
    methods = [m for m in summary["methods"] if m["steadiness"]]
    if not methods:
        return ""
    rows = [
        [(m["name"], ""), (percent(m["steadiness"]["consistency"]), ""), (f"{m['steadiness']['jitter']:.2f}", "")]
        for m in methods
        if m["steadiness"]["jitter"] is not None
    ]
    truth = methods[0]["steadiness"]
    if truth["jitter_truth"] is not None:
        rows.append(
            [("the truth itself", ""), (percent(truth["consistency_truth"]), ""), (f"{truth['jitter_truth']:.2f}", "")]
        )
    return (
        "<h2>Steadiness</h2><p>IoU of consecutive masks and travel of their boundary, after the true motion of the "
        f"object’s centre is taken out.</p>{table(('method', 'consistency, %', 'jitter, pixels'), rows)}"
    )


def _example_section(summary: Line, folder: Path | None) -> str:
    examples = summary.get("examples") or []
    if not examples or folder is None:
        return ""
    names = {"visible": "visible", "found": "hidden, found", "missed": "hidden, missed", "wrong": "claimed wrongly"}
    keys = "".join(
        f'<span class="key"><i class="swatch" style="background:rgb{COLOURS[key]}"></i>{text}</span>'
        for key, text in names.items()
    )
    parts = [
        "<h2>Example clips</h2>",
        f"<p>Best, median and worst clip of {escape(str(summary['examples_of']))} by mIoU_occ.</p>",
    ]
    parts.append(f'<div class="legend">{keys}</div>')
    scores = {m["name"]: {line["clip"]: line for line in m["per_clip"]} for m in summary["methods"]}
    for example in examples:
        parts.append(f'<h3 style="margin-top:18px">{escape(example["rank"])}: {escape(example["clip"])}</h3>')
        for strip in example["strips"]:
            data = base64.b64encode((folder / strip["picture"]).read_bytes()).decode("ascii")
            name, below = "the clip", "what the camera saw"
            if strip["name"] is not None:
                name, line = strip["name"], scores[strip["name"]][example["clip"]]
                below = f"mIoU_occ {percent(line['miou_occ'])}"
            kind = "jpeg" if strip["picture"].endswith(".jpg") else "png"
            parts.append(
                f'<div class="strip"><span>{escape(name)}<br><span class="soft">{below}</span></span>'
                f'<img alt="{escape(f"{name}, {below}", quote=True)}" src="data:image/{kind};base64,{data}"></div>'
            )
    return "\n".join(parts)


def _rules_section(summary: Line) -> str:
    rules = summary["protocol"]
    says = {
        "resize": "predictions of another size",
        "union_modal": "visible mask added to the prediction",
        "epsilon": "epsilon in the IoU’s denominator",
        "single_precision": "ratio taken in single precision",
        "erosion": "side of the erosion of hidden parts, pixels",
        "occ_frames": "frames of mIoU_occ",
        "fully_hidden": "fully hidden frames in mIoU",
        "average": "headline is the mean over",
    }
    plain = {True: "yes", False: "no"}
    rows = [
        [(text, ""), (plain.get(rules[key], str(rules[key])) if isinstance(rules[key], bool) else f"{rules[key]}", "")]
        for key, text in says.items()
    ]
    return (
        f"<h2>The rules</h2><p>Protocol <code>{escape(rules['name'])}</code>. Numbers made under other rules do not "
        f"compare with these.</p>{table(('rule', ''), rows)}"
    )
