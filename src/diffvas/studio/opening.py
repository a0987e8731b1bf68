"""From a file to a clip, within limits: what may be opened, and one sentence where it may not."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import av
import av.error
import numpy as np

from diffvas.types import F32, U8, Clip
from diffvas.video import frame_times, list_images, stream_frames

# What an uploaded file may be. Not playlists: libav would open the files that they name, which may be anyone's.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,y4m,yuv4mpegpipe,mxf,ivf"


@dataclass(frozen=True)
class Limits:
    """How much a session may open.

    Attributes:
        upload: bytes of an uploaded file. frames: of a clip. pixels: of a frame. decoded: bytes of all frames of a
            clip. clips: per session. memory: bytes of all clips of all sessions. sessions: at a time.
        idle: seconds after which a session that nobody uses ends.
    """

    upload: int = 1 << 30
    frames: int = 300
    pixels: int = 4096 * 2304
    decoded: int = 2 << 30
    clips: int = 12
    memory: int = 6 << 30
    sessions: int = 64
    idle: float = 3 * 3600.0


@dataclass(frozen=True, eq=False)
class Opened:
    """A clip, the file that it came from (None for the demo), and depth where it is known exactly."""

    clip: Clip
    source: Path | None = None
    depth: F32 | None = None


class LimitError(ValueError):
    """More than the studio takes: the sentence says what the limit is and what came."""


def size_words(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def open_demo() -> Opened:
    """The bundled clip, with its own depth."""
    from diffvas.data.examples import relative_depth
    from diffvas.world.storage import read_scene_clip

    scene = read_scene_clip(Path(str(resources.files("diffvas") / "assets" / "demo.npz")))
    return Opened(Clip(scene.frames_u8, 12.0, "demo"), None, relative_depth(scene.depth))


def open_path(path: Path, name: str, limits: Limits, *, foreign: bool) -> Opened:
    """Decode a video file or a folder of images.

    Args:
        path: where it is. name: what to call the clip. foreign: uploaded, so that only containers of video are tried.

    Raises:
        LimitError: too many frames or pixels; said as early as it shows.
        ValueError: not a whole video, in a sentence that calls it by ``name`` and not by its path.
    """
    try:
        if foreign:
            _check_container(path)
        frames = _read(path, limits)
        fps = _rate(path, len(frames))
    except LimitError:
        raise
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace(str(path), name)) from error
    return Opened(Clip(frames, fps, name), path)


def _check_container(path: Path) -> None:
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        with av.open(f"file:{path}", options=options) as container:
            if not container.streams.video:
                raise ValueError(f"expected a video file, got '{path}', which has no video stream")
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a video (MP4, MOV, MKV, WebM, AVI, ...), got '{path}', which is none") from error


def _read(path: Path, limits: Limits) -> U8:
    if path.is_dir() and len(list_images(path)) > limits.frames:
        raise LimitError(f"expected at most {limits.frames} frames, got {len(list_images(path))} images")
    frames: list[U8] = []
    for frame in stream_frames(path):
        height, width = frame.rgb_u8.shape[:2]
        if height * width > limits.pixels:
            raise LimitError(
                f"expected frames of at most {limits.pixels / 1e6:.1f} megapixels, got {width} x {height}; "
                "make the video smaller"
            )
        if len(frames) == limits.frames:
            raise LimitError(f"expected a video of at most {limits.frames} frames, got a longer one; cut a part of it")
        if (len(frames) + 1) * frame.rgb_u8.nbytes > limits.decoded:
            raise LimitError(
                f"expected at most {size_words(limits.decoded)} of decoded frames, got more: "
                f"{len(frames)} frames of {width} x {height} fit; cut the video or make it smaller"
            )
        frames.append(frame.rgb_u8)
    stack = np.empty((len(frames), *frames[0].shape), np.uint8)
    for t in reversed(range(len(frames))):
        stack[t] = frames.pop()
    return stack


def _rate(path: Path, count: int) -> float:
    """Mean frames per second by the frames' own times."""
    times = frame_times(path)
    if len(times) < 2 or times[-1] <= 0:
        return 25.0
    return round(max(0.1, (len(times) - 1) / times[-1]), 3)
