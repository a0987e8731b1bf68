"""Tables for people, JSON for what reads it later."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from rich.table import Table


def percent(value: float) -> str:
    """A share as a percentage; a dash for nan."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def interval(line: dict[str, Any], key: str, scale: float = 100.0) -> str:
    """``low..high`` of a key, or nothing."""
    low, high = line[f"{key}_low"], line[f"{key}_high"]
    return "" if math.isnan(low) else f" ({scale * low:.1f}..{scale * high:.1f})"


def _table(title: str, columns: list[str], text_columns: int) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text_columns else "right", no_wrap=True)
    return table


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def mask_table(lines: list[dict[str, Any]], title: str) -> Table:
    """Methods as rows, at one threshold; scores in percent, intervals of 95 %."""
    numbers = ["mIoU", "mIoU_occ", "less hull", "fully hidden", "clips", "frames", "hidden", "s/clip"]
    table = _table(title, ["method", "depth", *numbers], 2)
    for line in lines:
        table.add_row(
            line["method"],
            line["depth"],
            percent(line["miou"]) + interval(line, "miou"),
            percent(line["miou_occ"]) + interval(line, "miou_occ"),
            "-" if math.isnan(line["gain"]) else f"{100 * line['gain']:+.1f}" + interval(line, "gain"),
            percent(line["miou_occ_fully_hidden"]),
            str(line["clips"]),
            str(line["frames"]),
            str(line["frames_occ"]),
            _seconds(line["seconds"]),
        )
    return table


def sight_line(depth: str, sight: dict[str, int]) -> str:
    """What a model says of frames in which the object is not visible; see ``evaluate.OutOfSight``."""
    return (
        f"not visible, depth {depth}: taken to have left the frame in {sight['gone_taken']} of {sight['gone']} frames "
        f"without any of the object, and in {sight['hidden_taken']} of {sight['hidden']} in which it is hidden"
    )


def threshold_table(lines: list[dict[str, Any]], title: str) -> Table:
    """mIoU / mIoU_occ of every decoding at every threshold; the best mIoU_occ (else mIoU) of a row has a star."""
    thresholds = sorted({line["threshold"] for line in lines if line["threshold"] is not None})
    table = _table(title, ["method", "depth", *(f"{t:.3g}" for t in thresholds)], 2)
    rows: dict[tuple[str, str], dict[float, dict[str, Any]]] = {}
    for line in lines:
        if line["threshold"] is not None:
            rows.setdefault((line["method"], line["depth"]), {})[line["threshold"]] = line
    for (method, depth), by_threshold in rows.items():
        key = "miou" if all(math.isnan(line["miou_occ"]) for line in by_threshold.values()) else "miou_occ"
        best = max(by_threshold, key=lambda t: by_threshold[t][key])
        cells = [
            f"{percent(line['miou'])} / {percent(line['miou_occ'])}{'*' if t == best else ' '}"
            for t, line in sorted(by_threshold.items())
        ]
        table.add_row(method, depth, *cells)
    return table


def family_table(families: dict[str, list[dict[str, Any]]], title: str) -> Table:
    """mIoU_occ of every method (rows) on every silhouette (columns)."""
    table = _table(title, ["method", "depth", *families], 2)
    for lines in zip(*families.values(), strict=True):
        table.add_row(lines[0]["method"], lines[0]["depth"], *(percent(line["miou_occ"]) for line in lines))
    return table


def content_table(lines: list[dict[str, Any]], title: str) -> Table:
    """Methods as rows; PSNR, SSIM and the PSNR of changes from frame to frame, all inside the hidden region; means of
    frames, the last of clips."""
    table = _table(title, ["method", "PSNR", "less mean colour", "SSIM", "steady", "clips", "hidden", "s/clip"], 1)
    for line in lines:
        table.add_row(
            line["method"],
            "-" if math.isnan(line["psnr"]) else f"{line['psnr']:.2f}" + interval(line, "psnr", 1.0),
            "-" if math.isnan(line["gain"]) else f"{line['gain']:+.2f}" + interval(line, "gain", 1.0),
            "-" if math.isnan(line["ssim"]) else f"{line['ssim']:.3f}",
            "-" if math.isnan(line["steady"]) else f"{line['steady']:.2f}" + interval(line, "steady", 1.0),
            str(line["clips"]),
            str(line["frames"]),
            _seconds(line["seconds"]),
        )
    return table


def _plain(value: Any) -> Any:
    """What JSON can hold: nan becomes null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, report: dict[str, Any]) -> None:
    """Write a report beside its place and rename it when whole."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(_plain(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
