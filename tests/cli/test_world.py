"""``diffvas world`` from the command line: what it prints, where it stops, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from diffvas.cli.main import main
from diffvas.world.codec import encode_clip
from diffvas.world.shards import open_dataset, write_shard
from factories import make_scene

MAKE = ["world", "make", "--preset", "flat", "--size", "16", "24", "--frames", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clips = [(name, encode_clip(make_scene(name))) for name in ("one", "two", "three")]
    write_shard(tmp_path / "set" / "shard-00000.tar", clips)
    return tmp_path / "set"


def break_it(folder: Path) -> None:
    path = folder / "shard-00000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"two.rgb.png") + 600] ^= 255
    path.write_bytes(data)


def test_make_resumes_and_says_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*MAKE, "--clips", "2", "--seed", "4", "--split", "val", "--truth", "masks", "--out", str(tmp_path / "a")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "2 clips in 1 shards" in out and "object clips a minute of CPU time on one core" in out
    assert "rendering" in out and "clips: 2/2" in err
    scenes = open_dataset(tmp_path / "a")
    assert scenes.names == ["flat-val-0000000", "flat-val-0000001"] and scenes[0].frames_u8.size == 0
    settings = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert (settings["split"], settings["truth"], settings["seed"]) == ("val", [], 4)
    assert main(command) == 0
    assert "made" not in capsys.readouterr().out
    (tmp_path / "a" / "shard-00000.tar").write_bytes(b"broken")
    assert main(command) == 0
    assert "shard-00000.tar: was broken, made again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "flatt", "--clips", "1"], "argument --preset: expected one of .*; did you mean 'flat'?"),
        (["--clips", "0"], "argument --clips: expected a whole number of 1 or more, got '0'"),
        (["--clips", "1", "--truth", "rgb,sound"], "argument --truth: expected all, or some of masks, .* got 'sound'"),
        (["--clips", "1", "--split", "training"], "argument --split: .*training"),
        (["--clips", "1", "--size", "8", "24"], "argument --size: expected a whole number of 16 or more, got '8'"),
    ],
)
def test_wrong_requests_are_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*MAKE, *options, "--out", str(tmp_path / "a")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and not (tmp_path / "a").exists()
    assert __import__("re").search(message, err)


def test_another_data_set_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MAKE, "--clips", "1", "--out", str(tmp_path / "a")]) == 0
    assert main([*MAKE, "--clips", "1", "--seed", "9", "--out", str(tmp_path / "a")]) == 2
    assert "argument --out: expected an empty folder, got another data set" in capsys.readouterr().err


def test_a_full_disk_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main([*MAKE, "--clips", "1", "--out", str(tmp_path / "a")]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device): 0 of 1 clips are whole; the same command goes on" in err


def test_no_opengl_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("no OpenGL for rendering scenes (x): install it")

    monkeypatch.setattr("diffvas.world.make.make_one", missing)
    assert main(["world", "make", "--clips", "1", "--out", str(tmp_path / "a")]) == 1
    assert capsys.readouterr().err.strip() == "diffvas world: error: no OpenGL for rendering scenes (x): install it"


def test_an_interrupt_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffvas.world.make.make_one", stop)
    assert main([*MAKE, "--clips", "1", "--out", str(tmp_path / "a")]) == 130
    assert "whole shards are kept in" in capsys.readouterr().err


def test_look_stats_and_export(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, out = tmp_path / "sheet.png", tmp_path / "stats"
    assert main(["world", "look", str(folder), "--clips", "2", "--out", str(sheet)]) == 0
    assert Image.open(sheet).size == (6 * 64, 2 * 32)
    assert main(["world", "stats", str(folder), "--out", str(out)]) == 0
    assert json.loads((out / "stats.json").read_text())["clips"] == 3
    assert {"stats.json", "histogram.png", "visible-above-95.png"} <= {path.name for path in out.iterdir()}
    printed = capsys.readouterr().out
    assert "sheet.png: 2 of 3 clips" in printed and "3 clips, 6 objects" in printed and "above-95" in printed
    for name, file in (("sailvos", "annotations.json"), ("ytvis", "amodal.json"), ("movi", "test_instance.txt")):
        assert main(["world", "export", str(folder), "--format", name, "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name / file).is_file()
    assert main(["world", "export", str(folder), "--format", "movi", "--out", str(tmp_path / "movi")]) == 2
    assert "argument --out: expected a new or empty folder" in capsys.readouterr().err


def test_what_is_broken_is_named_and_skipped_only_when_asked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["world", "check", str(folder)]) == 0
    break_it(folder)
    capsys.readouterr()
    assert main(["world", "check", str(folder)]) == 1
    assert "shard-00000.tar' (two.rgb.png does not match its checksum)" in capsys.readouterr().out
    command = ["world", "export", str(folder), "--format", "ytvis", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "argument DIR: expected a whole shard" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*command, "--skip-broken"]) == 0
    assert "skipped: " in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "modal.json").read_text())["videos"]) == 2


@pytest.mark.parametrize("verb", ["look", "stats", "check", "export --format movi --out x"])
def test_a_folder_without_scenes_is_refused(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = verb.split()
    assert main(["world", first, str(tmp_path), *rest]) == 2
    assert "argument DIR: expected a data set of scene clips (.tar or .npz), got none in" in capsys.readouterr().err
