"""Where one shot ends and another begins, by PySceneDetect, frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2

from diffvas.types import U8
from diffvas.video import Footage, scan_clip

SHOTS = ("auto", "none")

THRESHOLD = 27.0  # PySceneDetect's own
SHORTEST = 15  # frames of a shot, PySceneDetect's own: flashes are no cuts
WIDTH = 256  # pixels to which its command line shrinks frames


class ShotFinder:
    """Takes a clip's frames one after another, in the memory of two of them at thumbnail size.

    PySceneDetect's ``ContentDetector``: a cut is a jump in hue, saturation and brightness; its command line's defaults.
    """

    def __init__(self, fps: float = 25.0, threshold: float = THRESHOLD) -> None:
        from scenedetect import ContentDetector, FrameTimecode

        self._detector = ContentDetector(threshold=threshold, min_scene_len=SHORTEST)
        self._timecode, self._fps = FrameTimecode, fps
        self._count = 0
        self._cuts: set[int] = set()

    def add(self, frame: U8) -> None:
        """The next frame, (H, W, 3) uint8."""
        shrink = max(1.0, frame.shape[1] / WIDTH)
        size = (max(1, round(frame.shape[1] / shrink)), max(1, round(frame.shape[0] / shrink)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)[..., ::-1]
        found = self._detector.process_frame(self._timecode(self._count, self._fps), small)
        self._cuts.update(cut.frame_num for cut in found)
        self._count += 1

    def cuts(self) -> list[int]:
        """Numbers of the frames with which a new shot begins; the first frame is none."""
        last = self._detector.post_process(self._timecode(max(self._count - 1, 0), self._fps))
        self._cuts.update(cut.frame_num for cut in last)
        return sorted(cut for cut in self._cuts if 0 < cut < self._count)


def scan(source: str | Path, shots: str = "auto") -> tuple[Footage, list[int]]:
    """Read a video from end to end once: how long and whole it is, and the frames with which new shots begin.

    Raises:
        FileNotFoundError, ValueError: as ``video.read_clip``; a damaged video is found here, before anything is drawn.
    """
    finder = ShotFinder() if shots == "auto" else None
    footage = scan_clip(source, None if finder is None else finder.add)
    return footage, [] if finder is None else finder.cuts()
