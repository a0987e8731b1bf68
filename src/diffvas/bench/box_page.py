"""The page and the table of box scores (TAO-Amodal): shares of frames whose box is right."""

from __future__ import annotations

from html import escape
from typing import Any

from diffvas.bench.charts import Point, forest, nice_axis
from diffvas.bench.page import Line, number, percent, table, warnings_of, whole_page

KEYS = {"miou": "mIoU", "ap25": "AP25", "ap50": "AP50", "ap75": "AP75"}
ABOUT = (
    "Shares of frames whose box IoU with the true amodal box is above 0.25, 0.5 and 0.75, in percent, with 95 % "
    "bootstrap intervals over clips: the reference's AP, which knows no scores and no classes. The Track-AP of TAO and "
    "LVIS is another number."
)


def box_markdown(summary: dict[str, Any]) -> str:
    """The table, and what is missing, in Markdown."""
    lines = ["# Box scores", "", ABOUT, "", "| method | " + " | ".join(KEYS.values()) + " | clips | frames |"]
    lines.append("|" + "---|" * (len(KEYS) + 3))
    for row in _rows(summary):
        cells = [f"{text} ({small})" if small else text for text, small in row]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", *(f"- **{text}**" for text in warnings_of(summary["boxes"]))]
    return "\n".join(lines).rstrip() + "\n"


def box_page(summary: dict[str, Any], title: str = "") -> str:
    """The whole page."""
    methods: list[Line] = summary["boxes"]
    title = title or f"Amodal boxes: {methods[0]['clips'] if methods else 0} clips"
    ranked = sorted(enumerate(methods), key=lambda item: -(item[1]["ap50"] or 0.0))
    rows, text = [], []
    for colour, m in ranked:
        low, high = number(m["ap50_low"]), number(m["ap50_high"])
        rows.append((m["name"], Point(number(m["ap50"]), 0, low, high), colour))
        text.append(f"{percent(m['ap50'])}  ({percent(low)} to {percent(high)})")
    chart = forest(rows, nice_axis("AP50, %", [number(m["ap50_high"]) for m in methods]), "AP50 of every method", text)
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(ABOUT)}</p>']
    if warnings := warnings_of(methods):
        body.append('<div class="warn">' + "".join(f"<p>{escape(one)}</p>" for one in warnings) + "</div>")
    body.append(f'<h2>AP50</h2><figure class="full">{chart}</figure>')
    body.append(f"<h2>All scores</h2>{table(('method', *KEYS.values(), 'clips', 'frames'), _rows(summary))}")
    return whole_page(title, body)


def _rows(summary: dict[str, Any]) -> list[list[tuple[str, str]]]:
    rows = []
    for m in summary["boxes"]:
        row = [(m["name"], "")]
        for key in KEYS:
            low, high = percent(m[f"{key}_low"]), percent(m[f"{key}_high"])
            row.append((percent(m[key]), "" if m[f"{key}_low"] is None else f"{low} to {high}"))
        rows.append([*row, (str(m["clips"]), ""), (str(m["frames"]), "")])
    return rows
