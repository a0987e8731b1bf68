"""One click per clip, from a video file to masks, end to end: how well are the given masks met?

    python tests/perception/point_check.py CLIPS_DIR [--out DIR] [-- ARGUMENTS OF DIFFVAS COMPLETE]

CLIPS_DIR holds folders with ``frames/`` and ``masks/`` (or ``NAME.mp4`` and ``masks/``); frames are first made into an
mp4. The click is the pixel deepest in the mask of the frame that shows most of the object. ``diffvas complete`` then
gets the video and that point alone, and its tracked masks (``--save-masks``) are compared with the given ones: mean IoU
over the frames; a frame without the object counts 1 where nothing was found. DIR keeps videos, masks and results, and
NAME.png, to be looked at: green is right, red too much, blue missing.

Without further arguments the tracker is ``classic``, and completion is as short as it can be.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from diffvas.cli.main import main as diffvas
from diffvas.export import write_png
from diffvas.masks import read_masks
from diffvas.metrics.mask import iou
from diffvas.types import Clip
from diffvas.video import read_clip, write_mp4

SHORT = ("--tracker", "classic", "--only-masks", "--samples", "1", "--steps", "1")
_COLOURS = {"right": (0, 255, 0), "too much": (255, 0, 0), "missing": (0, 0, 255)}


def deepest(masks: np.ndarray) -> tuple[int, int, int]:
    """Frame, x and y of the click on (T, H, W) masks."""
    t = int(masks.sum((1, 2)).argmax())
    depth = cv2.distanceTransform(np.pad(masks[t], 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return t, int(x), int(y)


def picture(clip: Clip, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Eight frames with what is right and wrong in colours."""
    tiles = []
    for t in np.linspace(0, clip.num_frames - 1, 8).astype(int):
        frame = clip.frames_u8[t].copy()
        areas = (found[t] & truth[t], found[t] & ~truth[t], ~found[t] & truth[t])
        for area, colour in zip(areas, _COLOURS.values(), strict=True):
            frame[area] = (frame[area] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
        size = 320, round(320 * clip.height / clip.width)
        tiles.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    return np.vstack([np.hstack(tiles[:4]), np.hstack(tiles[4:])])


def check(folder: Path, out: Path, words: tuple[str, ...]) -> tuple[str, list[float], float]:
    """The click's words, IoU frame by frame, and seconds."""
    video = next(iter(sorted(folder.glob("*.mp4"))), None)
    if video is None:
        video = out / f"{folder.name}.mp4"
        write_mp4(video, list(read_clip(folder / "frames").frames_u8), 8.0)
    clip = read_clip(video)
    truth = np.any([track.modal_masks for track in read_masks(folder / "masks", clip.size, clip.num_frames)], axis=0)
    click = "{},{},{}".format(*deepest(truth))
    masks = out / f"{folder.name}-masks"
    started = time.perf_counter()
    request = ["complete", str(video), "--point", click, "--save-masks", str(masks), "--out", str(out / folder.name)]
    if diffvas([*request, *words]) != 0:
        raise SystemExit(1)
    seconds = time.perf_counter() - started
    (track,) = read_masks(masks, clip.size, clip.num_frames)
    write_png(out / f"{folder.name}.png", picture(clip, track.modal_masks, truth))
    return click, [iou(a, b) for a, b in zip(track.modal_masks, truth, strict=True)], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", metavar="CLIPS_DIR", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, help="a folder to keep what is made [none]")
    parser.add_argument("words", metavar="-- ARGUMENTS", nargs="*", help=f"of diffvas complete [{' '.join(SHORT)}]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        out = args.out or Path(temp)
        out.mkdir(parents=True, exist_ok=True)
        lines, means = [], []
        for folder in sorted(p for p in args.clips.iterdir() if (p / "masks").is_dir()):
            click, values, seconds = check(folder, out, tuple(args.words) or SHORT)
            means.append(float(np.mean(values)))
            lines.append(
                f"{folder.name:<14}click {click:<14}IoU {means[-1]:.3f}  clicked frame "
                f"{values[int(click.split(',')[0])]:.3f}  worst {min(values):.3f}  {seconds:.1f} s"
            )
    print("\n".join([*lines, f"{len(means)} clips: mean IoU {np.mean(means) if means else float('nan'):.3f}"]))


if __name__ == "__main__":
    main()
