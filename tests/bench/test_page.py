"""The page and the tables: complete, offline, well-formed, and honest about what was missing."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffvas.bench.charts import Axis, Point, Series, forest, line_chart, nice_axis
from diffvas.bench.page import html_page, markdown, read_summary
from diffvas.bench.pictures import COLOURS, TILE, draw_clip, frames_below, rank_clips, tile, window, write_examples
from diffvas.bench.predictions import MaskTruth, PredictionFolder, TruthFolder
from diffvas.bench.score import ModalPredictions, score_method
from diffvas.bench.summary import summarise, write_scores
from diffvas.metrics import PROTOCOLS
from diffvas.metrics import rle as runs
from scoring_cases import truth, write_case

STRICT = PROTOCOLS["strict"]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scores of three methods, one with a name that HTML must not take for its own."""
    root = tmp_path_factory.mktemp("page")
    write_case(root, 4, (("<near> & dear", 1.0, 3),))
    sources = [PredictionFolder.open(root / "<near> & dear"), ModalPredictions()]
    truths = list(TruthFolder.open(root / "truth"))
    methods = [score_method(truths, source, STRICT) for source in sources]
    methods[1].problems.missing.append("scene0/0: 00003")
    summary = summarise(methods, resamples=50)
    ranked = rank_clips(summary["methods"][0]["per_clip"])
    found = {t.clip: t for t in truths}
    summary["examples"] = write_examples(root / "scores", found, sources, STRICT, ranked)
    summary["examples_of"] = methods[0].name
    write_scores(root / "scores", methods, summary)
    return root / "scores"


class Checker(HTMLParser):
    """Tags in balance, every address a data URL."""

    VOID = ("meta", "img", "br", "line", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_offline(scores: Path) -> None:
    page = html_page(read_summary(scores), scores)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.links) == 6 and all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert not re.search(r"https?://|<script|url\(|@import", page)
    for heading in (
        "mIoU_occ",
        "All scores",
        "How much was visible",
        "Top-K",
        "Probabilities",
        "Steadiness",
        "The rules",
    ):
        assert re.search(f"<h2>[^<]*{heading}", page), heading
    assert "&lt;near&gt; &amp; dear" in page and "<near>" not in page
    assert "1 of 24 frames had no prediction and were scored as empty: scene0/0: 00003" in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ET.fromstring(svg)
        assert "nan" not in svg.lower()
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(checker.links[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (TILE[0], 6 * TILE[1] + 5 * 4, 3)


def test_tables_say_the_numbers_of_the_summary(scores: Path) -> None:
    summary = read_summary(scores)
    text = markdown(summary)
    near = summary["methods"][0]
    row = next(line for line in text.splitlines() if "<near>" in line)
    assert f"| {100 * near['miou_occ']:.1f} ({100 * near['miou_occ_low']:.1f} to" in row
    assert row.count("|") == 12 and "GiB" in row
    assert "scored as empty: scene0/0: 00003" in text


def test_a_summary_of_one_plain_method(tmp_path: Path) -> None:
    """No samples, no probabilities, no runtime, no counted frame, no clip: the page leaves things out, and stands."""
    write_case(tmp_path, 1)
    for limits in (None, (0.0, 0.0)):
        scored = score_method(
            TruthFolder.open(tmp_path / "truth"), ModalPredictions(), STRICT, visibility=limits, video=False
        )
        write_scores(tmp_path / "s", [scored], summarise([scored], resamples=10))
        page = html_page(read_summary(tmp_path / "s"), tmp_path / "s", "A <title>")
        assert "A &lt;title&gt;" in page and "Top-K" not in page and "memory" not in page
        Checker().feed(page)


def test_reference_warns_of_different_frames(tmp_path: Path) -> None:
    write_case(tmp_path, 2)
    sources = (PredictionFolder.open(tmp_path / "near"), ModalPredictions())
    truths = list(TruthFolder.open(tmp_path / "truth"))
    methods = [score_method(truths, s, PROTOCOLS["reference"], video=False) for s in sources]
    write_scores(tmp_path / "s", methods, summarise(methods, resamples=10))
    assert "averages mIoU_occ over different frames for each method (0 to" in markdown(read_summary(tmp_path / "s"))


def test_reading_a_summary_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looked for '.*summary.json', found no such file"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"scores": []}')
    with pytest.raises(ValueError, match="expected protocol, methods and differences"):
        read_summary(tmp_path)


def test_tiles_show_found_missed_and_wrong() -> None:
    g, m, p = (np.zeros(TILE, bool) for _ in range(3))
    g[:100, :100], m[:100, :25], p[:100, 25:50], p[100:, 150:] = True, True, True, True
    picture = tile(*(runs.encode(x) for x in (p, g, m)), (slice(0, TILE[0]), slice(0, TILE[1])), STRICT)
    for (y, x), name in {(50, 10): "visible", (50, 30): "found", (50, 80): "missed", (120, 180): "wrong"}.items():
        assert tuple(picture[y, x]) == COLOURS[name]


def test_windows_stay_in_the_frame() -> None:
    for masks in (np.ones((2, 9, 31), bool), np.zeros((2, 9, 31), bool), np.eye(31, dtype=bool)[None, :9]):
        rows, cols = window(MaskTruth.from_arrays("x", masks, masks))
        assert 0 <= rows.start < rows.stop <= 9 and 0 <= cols.start < cols.stop <= 31


def test_pictures_on_the_frames_themselves(tmp_path: Path) -> None:
    one = truth(0)
    names = tuple(f"{t}.png" for t in range(len(one.frames)))
    with_images = MaskTruth(one.clip, one.group, one.frames, one.amodal, one.modal, names)
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((*one.size, 3), np.uint8))
    plain = draw_clip(one, [ModalPredictions()], STRICT)[0]["picture"]
    strips = draw_clip(with_images, [ModalPredictions()], STRICT, frames_below(tmp_path))
    assert [strip["name"] for strip in strips] == [None, "modal"]  # the clip itself comes first
    drawn = strips[1]["picture"]
    assert plain.shape == drawn.shape == strips[0]["picture"].shape and (plain != drawn).any()
    assert draw_clip(one, [ModalPredictions()], STRICT, frames_below(tmp_path))[0]["name"] == "modal"  # names no files
    (tmp_path / "3.png").unlink()
    with pytest.raises(ValueError, match=r"images: expected the frame '.*3.png', found no such file"):
        draw_clip(with_images, [ModalPredictions()], STRICT, frames_below(tmp_path))
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="which OpenCV cannot read"):
        draw_clip(with_images, [ModalPredictions()], STRICT, frames_below(tmp_path))


def test_what_methods_were_fitted_on(scores: Path) -> None:
    summary = read_summary(scores)
    fitted = {"data": {"source": "world", "size": [64, 128], "frames": 25, "seed": 0}, "seed": 0, "steps": 30}
    fitted |= {"seconds": 0.0, "batch": 4, "options": {}}
    changed = json.loads(json.dumps(summary))
    made = [{"fitted": fitted, "weights": "0123456789"}, {"fitted": {}, "weights": "ab"}, {"fitted": None}]
    for line, one in zip(changed["methods"], made, strict=False):
        line["made"] = one
    text = markdown(changed)
    assert f"| {changed['methods'][0]['name']} | world | 30 | 4 | 120 | 25 | 64 × 128 | 0 | 01234567 |" in text
    assert "What they were fitted on" in html_page(changed) and "fitted on" not in markdown(summary)
    assert "other data, elsewhere" in text or len(changed["methods"]) < 2
    changed["methods"] = [{**changed["methods"][0], "name": name, "made": made[0]} for name in ("a", "b")]
    assert "a, b: the same examples in the same order, equally many of them." in markdown(changed)
    changed["methods"][1]["made"] = {"fitted": {**fitted, "steps": 31}}
    assert "were not fitted on equal data" in markdown(changed)


def test_ranking() -> None:
    lines = [
        {"clip": str(i), "miou_occ": v, "frames_occ": n}
        for i, (v, n) in enumerate([(0.5, 2), (0.9, 0), (0.1, 1), (0.7, 3)])
    ]
    assert rank_clips(lines) == {"best": "3", "median": "0", "worst": "2"}
    assert rank_clips(lines[1:2]) == {}


@pytest.mark.parametrize(("top", "ticks"), [(0.04, 5), (0.83, 5), (1.0, 5), (0.0, 5), (7.0, 5)])
def test_axes_hold_their_values(top: float, ticks: int) -> None:
    axis = nice_axis("y", [top, float("nan")])
    assert axis.high >= top and len(axis.ticks) >= 3 and len(axis.ticks) <= ticks + 1
    assert top > 1 or axis.high <= 1


def test_charts_leave_out_what_is_no_number() -> None:
    axis = Axis("x", 0, 1, ((0, "0"), (1, "1")))
    nan = float("nan")
    series = [Series("a", (Point(0, 0.5, 0.1, 2.0), Point(0.5, nan)), 0), Series("b", (), 9)]
    svg = line_chart(series, axis, axis, "t", diagonal=True)
    assert svg.count("<circle") == 1 and "nan" not in svg and "s2 again" in svg
    rows = [("a" * 40, Point(nan, 0), 0), ("b", Point(0.5, 0, 0.4, 0.6), 1)]
    assert forest(rows, axis, "t", ["-", "50"]).count("<circle") == 1
