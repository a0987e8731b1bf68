"""OpenEXR sequences: ``exr/1/00000.exr``, half float RGBA, ZIP compression.

By OpenEXR's conventions: scene-linear light with the primaries of Rec. 709, and premultiplied alpha, whatever is asked
of other formats. libav's own codec writes and reads them, so that no further library is needed. Half floats hold 8-bit
values to within half a level.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from diffvas.exports import ExportOptions
from diffvas.exports.colour import to_linear_premultiplied
from diffvas.exports.result import Result
from diffvas.types import F32

PATTERN = "%05d.exr"


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write one sequence per object; no option plays a part."""
    for layer in result.layers:
        place = folder / str(layer.object_id)
        place.mkdir()
        for t in range(result.num_frames):
            (place / (PATTERN % t)).write_bytes(encode_exr(to_linear_premultiplied(layer.rgba(t))))
            tick()
    files = [f"{layer.object_id}/{PATTERN}" for layer in result.layers]
    return {"files": {"rgba": files}, "alpha": "premultiplied", "colour": "linear, Rec. 709 primaries, half float"}


def encode_exr(rgba: F32) -> bytes:
    """An OpenEXR file of (H, W, 4) float32, stored as half floats."""
    codec: Any = av.CodecContext.create("exr", "w")
    codec.height, codec.width = rgba.shape[:2]
    codec.pix_fmt, codec.time_base, codec.thread_count = "gbrapf32le", Fraction(1, 25), 1
    codec.options = {"format": "half", "compression": "zip16"}
    halves = rgba.astype(np.float16).astype(np.float32)  # rounded here: libav cuts off
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(halves), format="gbrapf32le")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()])


def read_exr(path: str | Path) -> F32:
    """The RGBA of an OpenEXR file, (H, W, 4) float32 as stored.

    Raises:
        ValueError: it cannot be decoded, or has no RGBA.
    """
    codec: Any = av.CodecContext.create("exr", "r")
    try:
        frames = [*codec.decode(av.Packet(Path(path).read_bytes())), *codec.decode()]
    except av.error.FFmpegError as error:
        raise ValueError(f"path: expected an OpenEXR file, got '{path}' ({error.strerror})") from error
    if len(frames) != 1 or not frames[0].format.name.startswith("gbrap"):
        kind = frames[0].format.name if frames else "nothing"
        raise ValueError(f"path: expected an OpenEXR file with RGBA, got {kind} in '{path}'")
    return _planes(frames[0])


def _planes(frame: Any) -> F32:
    """The planes G, B, R, A as they are: libav's conversion to other floats loses bits."""
    size = frame.format.components[0].bits // 8
    planes = [
        np.frombuffer(plane, dtype=f"<f{size}").reshape(-1, plane.line_size // size)[: frame.height, : frame.width]
        for plane in frame.planes
    ]
    green, blue, red, alpha = planes
    return np.stack([red, green, blue, alpha], axis=-1).astype(np.float32)
