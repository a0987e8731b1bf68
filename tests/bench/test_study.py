"""The preference study: blinded, reproducible, and counted right."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffvas.bench.study import analyse, describe, find_items, write_study


def make_results(root: Path, method: str, items: int = 4, frames: int = 3, grey: int = 0) -> Path:
    """Completions as `diffvas complete` writes them: ITEM/1/content/00000.png, RGBA."""
    for item in range(items):
        folder = root / method / f"clip{item}" / "1" / "content"
        folder.mkdir(parents=True)
        for t in range(frames):
            image = np.full((8, 12, 4), grey + t, np.uint8)
            image[..., 3] = np.where(np.arange(12) < 6, 0, 255)
            cv2.imwrite(str(folder / f"{t:05d}.png"), image)
    return root / method


@pytest.fixture
def study(tmp_path: Path) -> Path:
    a, b = make_results(tmp_path, "ours-secret", grey=40), make_results(tmp_path, "theirs-secret", grey=90)
    items = find_items(a, b)
    assert (
        write_study(tmp_path / "out", items, names=("ours-secret", "theirs-secret"), question="Better </script>?") == 4
    )
    return tmp_path / "out"


def page_data(study: Path) -> dict:
    text = (study / "study.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="study" type="application/json">(.*?)</script>', text, re.S).group(1))


def test_page_is_blind_offline_and_whole(study: Path) -> None:
    text = (study / "study.html").read_text(encoding="utf-8")
    assert "secret" not in text and "clip0" not in text
    assert not re.search(r"https?://|src=\"(?!data)", text)
    data = page_data(study)
    assert data["question"] == "Better </script>?"
    assert len(data["items"]) == 4 and all(len(i["x"]) == len(i["y"]) == 3 and i["input"] == [] for i in data["items"])
    assert "${at + 1} of ${trials.length}" in text  # the template left the script's own placeholders alone


def test_the_key_says_which_is_which(study: Path) -> None:
    key, data = json.loads((study / "key.json").read_text()), page_data(study)
    assert {entry["item"] for entry in key["items"].values()} == {f"clip{i}/1" for i in range(4)}
    for item in data["items"]:
        for side in ("x", "y"):
            raw = base64.b64decode(item[side][0].split(",")[1])
            image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
            ours = abs(int(image[4, 11].mean()) - 40) < 10
            assert ours == (key["items"][item["id"]][side] == "ours-secret")
            assert image[4, 1].mean() > 245  # transparent pixels are white


def test_the_same_seed_gives_the_same_study(tmp_path: Path) -> None:
    a, b = make_results(tmp_path, "a", 12), make_results(tmp_path, "b", 12, grey=50)
    for out, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_study(tmp_path / out, find_items(a, b), limit=9, seed=seed)
    read = {out: (tmp_path / out / "key.json").read_bytes() for out in ("one", "two", "three")}
    assert read["one"] == read["two"] != read["three"]
    sides = {entry["x"] for entry in json.loads(read["one"])["items"].values()}
    assert sides == {"a", "b"} and len(json.loads(read["one"])["items"]) == 9


def answers(study: Path, person: str, prefer: str, odd: int = 0) -> Path:
    """A person who prefers a method in all items but ``odd``, and is shown x on the left."""
    key = json.loads((study / "key.json").read_text())
    out = []
    for number, (item, sides) in enumerate(key["items"].items()):
        liked = next(s for s in "xy" if (sides[s] == prefer) != (number < odd))
        out.append({"item": item, "choice": liked, "left": "x", "place": number, "seconds": 1.0})
    path = study / f"{person}.json"
    record = {"format": "diffvas-study-results", "version": 1, "study": key["study"], "person": person, "answers": out}
    path.write_text(json.dumps(record))
    return path


def test_analysis_by_hand(study: Path) -> None:
    files = [answers(study, "p1", "ours-secret"), answers(study, "p2", "ours-secret", odd=1)]
    result = analyse(study / "key.json", files)
    assert (result["votes"], result["wins_a"], result["people"], result["resampled"]) == (8, 7, 2, "items")
    assert result["share_a"] == 7 / 8 and result["p"] == 2 * 9 / 256
    assert result["low"] <= 7 / 8 <= result["high"] and result["wilson_low"] < 7 / 8 < result["wilson_high"]
    assert sorted(i["wins_a"] for i in result["items"]) == [1, 2, 2, 2]
    assert "ours-secret preferred to theirs-secret in 7 of 8 choices by 2 people: 87.5 %" in describe(result)
    many = [answers(study, f"q{i}", "theirs-secret") for i in range(5)]
    result = analyse(study / "key.json", many)
    assert (result["resampled"], result["share_a"], result["high"]) == ("people", 0.0, 0.0)


def test_results_that_cannot_be_counted(study: Path, tmp_path: Path) -> None:
    path, key = answers(study, "p", "ours-secret"), study / "key.json"
    good = json.loads(path.read_text())
    with pytest.raises(ValueError, match="every person once, got p in"):
        analyse(key, [path, path])
    for change, message in (
        ({"study": "0"}, "answers to study .* of 0"),
        ({"format": "x"}, "expected format 'diffvas-study-results'"),
        ({"answers": [{"item": "999", "choice": "x"}]}, "one answer, x or y, per item"),
        ({"answers": [{"item": "000", "choice": None}]}, "one answer, x or y, per item"),
        ({"answers": good["answers"][:1] * 2}, "one answer, x or y, per item"),
        ({"answers": []}, "expected answers, got none"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=message):
            analyse(key, [path])


def test_items_that_do_not_fit(tmp_path: Path) -> None:
    a, b = make_results(tmp_path, "a"), make_results(tmp_path, "b", 3)
    with pytest.raises(ValueError, match="1 are in one of them only: 'clip3/1'"):
        find_items(a, b)
    c = make_results(tmp_path, "c", frames=2)
    with pytest.raises(ValueError, match="as many pictures in both of item 'clip0/1', got 3 and 2"):
        find_items(a, c)
    with pytest.raises(ValueError, match="input: expected the items of .* found no 'clip3/1'"):
        find_items(a, a, b)
    with pytest.raises(ValueError, match="a: expected a folder of items"):
        find_items(tmp_path / "none", b)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="b: expected folders of pictures"):
        find_items(a, tmp_path / "empty")
    with pytest.raises(ValueError, match="two different ones, got 'm' twice"):
        write_study(tmp_path / "o", find_items(a, a), names=("m", "m"))
    (a / "clip0" / "1" / "content" / "00001.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="which OpenCV cannot read"):
        write_study(tmp_path / "o", find_items(a, a))
    assert not (tmp_path / "o" / "study.html").exists()
