"""A blinded preference study: which of two methods' completions do people prefer (the paper's user study).

The page shows pairs of clips and holds no method's name: per item, the two results are called x and y by a draw, and
which is which stands in ``key.json``, which stays with whoever asks. The page draws order and sides anew for every
person, needs no network and sends nothing; people save a file and hand it back.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from diffvas.bench.storage import read_json, write_json, write_text
from diffvas.metrics.intervals import sign_test, wilson_interval
from diffvas.metrics.mask import bootstrap_interval

QUESTION = "Which one shows the whole object more believably?"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
WHITE = 255
QUALITY = 88


@dataclass(frozen=True)
class Item:
    """One pair: its name, and the pictures of both results and of the input (may be none), in order."""

    name: str
    a: tuple[Path, ...]
    b: tuple[Path, ...]
    given: tuple[Path, ...] = ()


def find_items(a: str | Path, b: str | Path, given: str | Path | None = None) -> list[Item]:
    """The items that two folders have in common.

    An item is a folder, at any depth, with pictures in it; its name is its path in the given folder, less a last part
    ``content`` (as ``diffvas complete`` calls it). Frames go by the order of their names.

    Raises:
        ValueError: no such folder, no pictures, items that only one of the two has, or different numbers of frames.
    """
    found_a, found_b = _folders(a, "a"), _folders(b, "b")
    alone = sorted(found_a.keys() ^ found_b.keys())
    if alone:
        raise ValueError(f"b: expected the items of '{a}' in '{b}', {len(alone)} are in one of them only: '{alone[0]}'")
    inputs = {} if given is None else _folders(given, "input")
    items = []
    for name in sorted(found_a):
        if given is not None and name not in inputs:
            raise ValueError(f"input: expected the items of '{a}' in '{given}', found no '{name}'")
        if len(found_a[name]) != len(found_b[name]):
            counts = f"{len(found_a[name])} and {len(found_b[name])}"
            raise ValueError(f"b: expected as many pictures in both of item '{name}', got {counts}")
        items.append(Item(name, found_a[name], found_b[name], inputs.get(name, ())))
    return items


def _folders(root: str | Path, name: str) -> dict[str, tuple[Path, ...]]:
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{name}: expected a folder of items, got '{root}'")
    out: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            folder = path.parent.relative_to(root)
            folder = folder.parent if folder.name == "content" else folder
            out.setdefault(folder.as_posix(), []).append(path)
    if not out:
        raise ValueError(f"{name}: expected folders of pictures ({', '.join(SUFFIXES)}) in '{root}', found none")
    return {folder: tuple(paths) for folder, paths in out.items()}


def _picture(path: Path, height: int) -> str:
    """One picture as a data URL: transparent ones on white, shrunk to a height, JPEG."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"item: expected a picture, got '{path}', which OpenCV cannot read")
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.round(image[..., :3] * alpha + WHITE * (1 - alpha)).astype(np.uint8)
    if image.shape[0] > height:
        wide = max(1, round(image.shape[1] * height / image.shape[0]))
        image = cv2.resize(image, (wide, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def write_study(
    out: str | Path,
    items: Sequence[Item],
    *,
    names: tuple[str, str] = ("a", "b"),
    question: str = "",
    limit: int | None = None,
    height: int = 256,
    fps: int = 8,
    seed: int = 0,
) -> int:
    """Write ``study.html`` and ``key.json`` into a folder.

    Args:
        out: the folder. items: see :func:`find_items`. names: of the two methods; they stand in the key only.
        question: what is asked. limit: of the number of items, drawn by ``seed``. height: of pictures, at most.
        fps: of the clips. seed: of the blinding.

    Returns:
        the number of items in the page.

    Raises:
        ValueError: no items, equal names, or pictures that cannot be read.
    """
    if not items:
        raise ValueError("items: expected one or more, got none")
    if names[0] == names[1]:
        raise ValueError(f"names: expected two different ones, got '{names[0]}' twice")
    rng = np.random.default_rng(seed)
    chosen = [items[i] for i in sorted(rng.permutation(len(items))[:limit])]
    shown, key = [], {}
    for number, item in enumerate(chosen):
        pictures = {n: [_picture(p, height) for p in paths] for n, paths in zip(names, (item.a, item.b), strict=True)}
        x = names[int(rng.integers(2))]
        y = names[1] if x == names[0] else names[0]
        short = f"{number:03d}"  # a name could give away what the item was chosen for
        shown.append(
            {"id": short, "x": pictures[x], "y": pictures[y], "input": [_picture(p, height) for p in item.given]}
        )
        key[short] = {"item": item.name, "x": x, "y": y}
    content = json.dumps([shown, question or QUESTION, fps]).encode()
    identity = hashlib.sha256(content).hexdigest()[:16]
    study = {"id": identity, "question": question or QUESTION, "fps": fps, "items": shown}
    # "</" would end the script element; in JSON the escaped form is the same string
    text = json.dumps(study).replace("</", "<\\/")
    template = resources.files("diffvas.bench").joinpath("study.html").read_text(encoding="utf-8")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    record = {"format": "diffvas-study-key", "version": 1, "study": identity, "methods": list(names), "items": key}
    write_json(out / "key.json", record, indent=1)
    write_text(out / "study.html", Template(template).substitute(study=text))
    return len(chosen)


# ---------------------------------------------------------------------------------------------------------------------
# analysis


def analyse(key: str | Path, results: Sequence[str | Path]) -> dict[str, Any]:
    """Count the choices.

    Args:
        key: the study's ``key.json``.
        results: the files that people saved.

    Returns:
        methods (a, b); votes, wins_a, share_a; ``wilson_low`` and ``_high``, which take every vote as independent;
        ``low`` and ``high``, the bootstrap interval over people (over items where fewer than 5 people took part), which
        does not; resampled: which of the two; p, the two-sided sign test over votes; left_share, how often the left
        side was chosen; people; items: per item its votes and wins of a.

    Raises:
        ValueError: files of another study or layout, a person or answer that stands twice, an item that is not in the
            study, an answer that is missing or none of x and y.
    """
    record = _read(key, "diffvas-study-key", "key")
    known, (a, b) = record["items"], record["methods"]
    votes: list[tuple[str, str, bool, bool]] = []  # person, item, for a, on the left
    people: dict[str, str] = {}
    for path in results:
        result = _read(path, "diffvas-study-results", "results")
        if result.get("study") != record["study"]:
            raise ValueError(
                f"results: expected answers to study {record['study']}, got '{path}' of {result.get('study')}"
            )
        person = str(result.get("person"))
        if person in people:
            raise ValueError(f"results: expected every person once, got {person} in '{people[person]}' and '{path}'")
        people[person] = str(path)
        answered: set[str] = set()
        for answer in result.get("answers", []):
            item, choice = answer.get("item"), answer.get("choice")
            if item not in known or item in answered or choice not in ("x", "y"):
                raise ValueError(f"results: expected one answer, x or y, per item in '{path}', got {answer}")
            answered.add(item)
            votes.append((person, item, known[item][choice] == a, choice == answer.get("left")))
    if not votes:
        raise ValueError("results: expected answers, got none")
    wins = sum(vote[2] for vote in votes)
    by_people = len(people) >= 5
    units = [v[0] if by_people else v[1] for v in votes]
    groups = [
        np.array([v[2] for v, u in zip(votes, units, strict=True) if u == unit], float) for unit in dict.fromkeys(units)
    ]
    low, high = bootstrap_interval(groups, rng=np.random.default_rng(0))
    wilson = wilson_interval(wins, len(votes))
    per_item = {
        item: {
            "item": known[item]["item"],
            "votes": sum(v[1] == item for v in votes),
            "wins_a": sum(v[1] == item and v[2] for v in votes),
        }
        for item in known
    }
    return {
        "methods": [a, b],
        "people": len(people),
        "votes": len(votes),
        "wins_a": wins,
        "share_a": wins / len(votes),
        "low": low,
        "high": high,
        "resampled": "people" if by_people else "items",
        "wilson_low": wilson[0],
        "wilson_high": wilson[1],
        "p": sign_test(wins, len(votes) - wins),
        "left_share": sum(vote[3] for vote in votes) / len(votes),
        "items": list(per_item.values()),
    }


def _read(path: str | Path, form: str, name: str) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != form or record.get("version") != 1:
        got = {k: record.get(k) for k in ("format", "version")} if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{name}: expected format '{form}', version 1, in '{path}', got {got}")
    return record


def describe(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    a, b = result["methods"]
    return (
        f"{a} preferred to {b} in {result['wins_a']} of {result['votes']} choices by {result['people']} people: "
        f"{100 * result['share_a']:.1f} % (95 %: {100 * result['low']:.1f} to {100 * result['high']:.1f}, "
        f"{result['resampled']} resampled)\n"
        f"taking every choice as independent: {100 * result['wilson_low']:.1f} to {100 * result['wilson_high']:.1f}, "
        f"sign test p = {result['p']:.3g}; the left side was chosen in {100 * result['left_share']:.0f} %"
    )
