"""``diffvas export``: the happy path, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffvas.cli import main
from diffvas.export import save_completion
from export_factories import make_completion


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return save_completion(make_completion(), tmp_path / "result")


def run(*argv: object) -> int:
    # as main does, without the table of verbs
    parser, module = main.verb_parser("export")
    return int(module.run(parser.parse_args([str(word) for word in argv])))  # type: ignore[attr-defined]


def test_several_formats_at_once(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(result, "--format", "coco,npz", "png", "--out", tmp_path / "out", "--category", "stone") == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}: coco, npz, png of 2 objects, 3 frames\n"
    assert said.err.splitlines() == ["coco: 6/6", "npz: 6/6", "png: 6/6"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["coco", "export.json", "npz", "png"]
    categories = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())["categories"]
    assert categories[0]["name"] == "stone"


def test_options_reach_the_formats(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(result, "--format", "layers", "cvat", "--out", out, "--alpha", "premultiplied", "--frame-name", "im%03d.jpg")
    about = json.loads((out / "export.json").read_text())["formats"]
    assert about["layers"]["alpha"] == "premultiplied" and about["cvat"]["frames"] == ["im000.jpg", "im002.jpg"]


def test_help_names_all_formats() -> None:
    parser, _ = main.verb_parser("export")
    text = parser.format_help()
    assert all(f"  {name}" in text for name in ("png", "prores", "vp9", "cvat")) and "%05d" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "coca"], r"argument --format: expected one or more of .*got 'coca' \(did you mean 'coco'\?\)"),
        (["--format", ","], "argument --format: expected one or more of .*, got none"),
        (["--format", "png", "--alpha", "some"], "argument --alpha: expected one of straight, premultiplied"),
        (["--format", "coco", "--category", ""], "argument --category: expected one line of text"),
        (["--format", "coco", "--frame-name", "a.jpg"], "argument --frame-name: expected a relative path with one %d"),
        ([], "the following arguments are required: --format"),
    ],
)
def test_bad_words(result: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(result, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_places(result: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    table = {
        (tmp_path / "absent", tmp_path / "out"): "argument RESULT: expected the folder of a result, got no such path",
        (tmp_path / "full", tmp_path / "out"): r"argument RESULT: expected .* has no result\.json",
        (result, tmp_path / "full"): "argument --out: expected a new or empty folder .*'thesis.txt'",
        (result, result / "out"): "argument --out: expected a folder apart from the result",
        (result, result): r"argument --out: expected .*no export\.json of ours",
    }
    for (source, out), message in table.items():
        with pytest.raises(ValueError, match=message):
            run(source, "--format", "coco", "--out", out)
    (result / "4" / "content" / "00001.png").unlink()
    with pytest.raises(ValueError, match=r"argument RESULT: expected a complete result, .* 4/content/00001\.png"):
        run(result, "--format", "coco", "--out", tmp_path / "out")
