"""Writing MP4 that every browser plays, with the sound of another file under it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from diffvas.sound import Silence, open_sound
from diffvas.types import U8

_TICKS = 90_000  # per second, for frames at times of their own


def frame_rate(fps: float) -> Fraction:
    """``fps`` as containers want it: a fraction of small numbers, 30000/1001 for 29.97."""
    return Fraction(fps).limit_denominator(1001) or Fraction(1, round(1.0 / fps))


def write_mp4(
    path: str | Path,
    frames: Iterable[U8],
    fps: float,
    *,
    times: Sequence[float] | None = None,
    sound_of: str | Path | None = None,
) -> None:
    """Write RGB frames (H, W, 3) uint8 as H.264 yuv420p in MP4, which every browser plays.

    One thread and no time stamps in the header, so that the same frames give the same bytes.

    Args:
        times: when each frame is shown, in seconds from the first one, ascending; ``fps`` decides where None.
        sound_of: a video file whose first sound track is laid under the frames, from its first video frame on.
            Sound that cannot be read is left out, with a :class:`diffvas.sound.SoundWarning`.

    Raises:
        ValueError: no frames, more frames than times, or frames with an odd side, which yuv420p cannot hold.
        OSError: the file cannot be written.
    """
    stream: Any = None
    # Python's own file: libav would drop an error of its last writes, a full disk for one
    with (
        open(path, "wb") as file,
        av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container,
        contextlib.ExitStack() as stack,
    ):
        end, sound = 0.0, Silence()
        for t, rgb in enumerate(frames):
            if stream is None:
                stream = _add_h264(container, rgb.shape, frame_rate(fps), even=times is None)
                sound = stack.enter_context(open_sound(sound_of, container))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if times is not None:
                if t >= len(times):
                    raise ValueError(f"times: expected one for every frame, got {len(times)}")
                frame.pts, frame.time_base = round(times[t] * _TICKS), Fraction(1, _TICKS)
            for packet in stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")):
                container.mux(packet)
            end = (times[t] if times is not None else t / fps) + 1.0 / fps
            sound.mux_until(end)
        if stream is None:
            raise ValueError("frames: expected at least one frame, got none")
        for packet in stream.encode():
            container.mux(packet)
        sound.finish(end)


def _add_h264(container: av.container.OutputContainer, shape: tuple[int, ...], rate: Fraction, even: bool) -> Any:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"frames: expected even sides for yuv420p, got {width} x {height}")
    stream: Any = container.add_stream("libx264", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    # x264's macroblock tree over B-frames gave up to eight different files for the same frames, in one thread too;
    # without either, all runs agree
    stream.options = {"crf": "18", "preset": "medium", "bf": "0", "x264-params": "mbtree=0"}
    context = stream.codec_context
    context.thread_count = 1
    if not even:
        context.time_base = Fraction(1, _TICKS)
    # say which of the two common RGB -> YUV matrices was used, or players guess by size
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
    return stream
