"""Video files with alpha, one per object, and reading them back.

========  ===================  ==============================================================================
prores    ProRes 4444, .mov    10 bits, alpha 16 bits and exact; what editors and compositors take
ffv1      FFV1 in RGBA, .mkv   lossless, every bit
vp9       VP9 4:2:0, .webm     small, for browsers; alpha is a second stream in the same track, which only libvpx
                               decodes: libav's own VP9 decoder drops it without a word (:func:`read_alpha_video`
                               knows, ``ffmpeg -c:v libvpx-vp9 -i 1.webm`` too)
========  ===================  ==============================================================================

Where a result has only masks, the colour is white. With straight alpha the lossy codecs get the object's edge colours
also beyond its edge, or the black there would bleed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from diffvas.exports import ExportOptions
from diffvas.exports.colour import spread_colours, with_alpha
from diffvas.exports.result import Result
from diffvas.mp4 import frame_rate
from diffvas.types import U8


@dataclass(frozen=True)
class AlphaCodec:
    """How a kind of alpha video is encoded."""

    suffix: str
    container: str
    encoder: str
    pixels: str
    lossy: bool
    options: dict[str, str] = field(default_factory=dict)


CODECS = {
    "prores": AlphaCodec(
        ".mov", "mov", "prores_ks", "yuva444p10le", True, {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
    ),
    "ffv1": AlphaCodec(".mkv", "matroska", "ffv1", "bgra", False, {"level": "3", "slicecrc": "1"}),
    # without alternate reference frames, which VP9 cannot keep in step with the alpha stream
    "vp9": AlphaCodec(
        ".webm",
        "webm",
        "libvpx-vp9",
        "yuva420p",
        True,
        {"crf": "15", "b": "0", "auto-alt-ref": "0", "deadline": "good", "cpu-used": "4"},
    ),
}


# libswscale's threads race where there is alpha: now and then some pixels are others. PyAV before 17 has one thread
_ONE_THREAD: dict[str, int] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def write_alpha_video(path: str | Path, frames: Iterable[U8], fps: float, codec: str) -> None:
    """Write RGBA frames as a video with alpha; one thread and no time of day, so the same frames give the same bytes.

    Args:
        path: the file; its suffix plays no part.
        frames: (H, W, 4) uint8 each, sRGB, of one size; any size, odd ones included.
        fps: frames per second.
        codec: "prores", "ffv1" or "vp9".

    Raises:
        ValueError: no frames, or another codec.
        OSError: the file cannot be written.
    """
    if codec not in CODECS:
        raise ValueError(f"codec: expected one of {', '.join(CODECS)}, got {codec!r}")
    spec = CODECS[codec]
    stream: Any = None
    # Python's own file, as in write_mp4: libav would drop an error of its last writes
    with (
        open(path, "wb") as file,
        av.open(file, "w", format=spec.container, options={"fflags": "+bitexact"}) as container,
    ):
        for rgba in frames:
            if stream is None:
                stream = _add_stream(container, spec, rgba.shape, fps)
            container.mux(stream.encode(_to_yuva(rgba, spec.pixels) if spec.lossy else _to_bgra(rgba)))
        if stream is None:
            raise ValueError("frames: expected at least one frame, got none")
        container.mux(stream.encode())


def _to_yuva(rgba: U8, pixels: str) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), format="rgba")
    return frame.reformat(format=pixels, dst_colorspace="ITU709", **_ONE_THREAD)


def _to_bgra(rgba: U8) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]), format="bgra")


def _add_stream(container: av.container.OutputContainer, spec: AlphaCodec, shape: tuple[int, ...], fps: float) -> Any:
    stream: Any = container.add_stream(spec.encoder, rate=frame_rate(fps))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt, stream.options = spec.pixels, dict(spec.options)
    context = stream.codec_context
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact
    if spec.lossy:
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
    return stream


def read_alpha_video(path: str | Path) -> Iterator[U8]:
    """The frames of a video with alpha, (H, W, 4) uint8 each; VP8 and VP9 are decoded by libvpx, which keeps the alpha.

    Raises:
        ValueError: no video in the file, or one without alpha.
        av.error.FFmpegError: it cannot be decoded.
    """
    with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise ValueError(f"path: expected a video with alpha, got no video in '{path}'")
        stream = container.streams.video[0]
        for frame in _frames(container, stream):
            if not any(component.is_alpha for component in frame.format.components):
                raise ValueError(f"path: expected a video with alpha, got {frame.format.name} in '{path}'")
            yield _to_rgba(frame)


def _to_rgba(frame: Any) -> U8:
    """(H, W, 4) uint8; alpha of more than 8 bits is rounded here, because libav's conversion is off by one."""
    rgba = frame.to_ndarray(format="rgba")
    depth = frame.format.components[3].bits
    if depth > 8 and frame.format.is_planar:
        plane = frame.planes[3]
        deep = np.frombuffer(plane, dtype="<u2").reshape(-1, plane.line_size // 2)[: frame.height, : frame.width]
        rgba[..., 3] = np.round(deep * (255.0 / (2**depth - 1)))
    return rgba


def _frames(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if decoder is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    context: Any = av.CodecContext.create(decoder, "r")
    context.width, context.height = stream.width, stream.height
    for packet in container.demux(stream):
        yield from context.decode(packet if packet.size else None)


def write_prores(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """One ProRes 4444 file per object."""
    return _write("prores", result, folder, options, tick)


def write_ffv1(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """One FFV1 file per object."""
    return _write("ffv1", result, folder, options, tick)


def write_vp9(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """One VP9 file per object."""
    return _write("vp9", result, folder, options, tick)


def _write(
    codec: str, result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]
) -> dict[str, Any]:
    spec, names = CODECS[codec], []
    for layer in result.layers:

        def frames(rgba: Callable[[int], U8] = layer.rgba) -> Iterator[U8]:
            for t in range(result.num_frames):
                picture = with_alpha(rgba(t), options.alpha)
                yield spread_colours(picture) if spec.lossy and options.alpha == "straight" else picture
                tick()

        names.append(f"{layer.object_id}{spec.suffix}")
        write_alpha_video(folder / names[-1], frames(), result.fps, codec)
    about = {"files": {"rgba": names}, "alpha": options.alpha, "colour": "sRGB", "lossless": not spec.lossy}
    if codec == "vp9":
        about["note"] = "decode with libvpx-vp9; other VP9 decoders drop the alpha"
    return about
