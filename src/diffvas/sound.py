"""Laying a video file's sound under a video that is being written."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

# decoders of what is copied as it is: every browser plays it in MP4; all else becomes AAC
COPIED = frozenset({"aac", "mp3", "mp3float"})
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class SoundWarning(UserWarning):
    """Some sound was left out, and why; the pictures are whole."""


class Silence:
    """No sound: what :func:`open_sound` gives where there is none."""

    def mux_until(self, seconds: float) -> None:
        """Write the sound up to a time."""

    def finish(self, seconds: float) -> None:
        """Write the sound up to the end of the video, and what the encoder still holds."""


class Sound(Silence):
    """One sound track on its way from a source to an output; times count from the source's first video frame."""

    def __init__(self, source: Any, output: Any, name: str) -> None:
        self._name, self._output = name, output
        self._input = source.streams.audio[0]
        self._origin = _first_video_time(source)
        self._encodes = self._input.codec_context.name not in COPIED
        self._stream = self._add_encoder() if self._encodes else output.add_stream_from_template(self._input)
        self._pieces = self._decoded(source) if self._encodes else self._copied(source)
        self._next = next(self._pieces, None)

    def _add_encoder(self) -> Any:
        context = self._input.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout = "mono" if context.channels == 1 else "stereo"
        stream = self._output.add_stream("aac", rate=rate, layout=layout)
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        return stream

    def _copied(self, source: Any) -> Iterator[tuple[float, Any]]:
        base = self._input.time_base
        shift = round(self._origin / base)
        with self._left_out():
            for packet in source.demux(self._input):
                if packet.pts is None or not packet.size:
                    continue
                packet.pts, packet.dts = packet.pts - shift, (packet.pts if packet.dts is None else packet.dts) - shift
                packet.stream = self._stream
                yield float(packet.pts * base), packet

    def _decoded(self, source: Any) -> Iterator[tuple[float, Any]]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(format="fltp", layout=context.layout, rate=context.rate)
        with self._left_out():
            for frame in source.decode(self._input):
                if frame.pts is None:
                    continue
                frame.pts -= round(self._origin / frame.time_base)
                for piece in resampler.resample(frame):
                    yield float(piece.pts * piece.time_base), piece

    @contextlib.contextmanager
    def _left_out(self) -> Iterator[None]:
        """Sound that cannot be read ends there; the pictures are what matters."""
        try:
            yield
        except av.error.FFmpegError as error:
            reason = error.strerror or error
            warnings.warn(f"the sound of '{self._name}' is left out where it is damaged ({reason})", SoundWarning, 3)

    def mux_until(self, seconds: float) -> None:
        while self._next is not None and self._next[0] < seconds:
            start, piece = self._next
            if start >= 0:
                self._output.mux(self._stream.encode(piece) if self._encodes else piece)
            self._next = next(self._pieces, None)

    def finish(self, seconds: float) -> None:
        self.mux_until(seconds)
        if self._encodes:
            self._output.mux(self._stream.encode())


@contextlib.contextmanager
def open_sound(path: str | Path | None, output: Any) -> Iterator[Silence]:
    """The first sound track of a video file, added as a stream to an output container.

    Args:
        path: a video file; None, a folder, or a file without sound give silence.
        output: a container open for writing, to which nothing was written yet.
    """
    if path is None or Path(path).is_dir():
        yield Silence()
        return
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(av.open(f"file:{path}", options={"protocol_whitelist": "file"}))
            sound = Sound(source, output, Path(path).name) if source.streams.audio else Silence()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            warnings.warn(
                f"the sound of '{path}' cannot be read ({reason}) and is left out", SoundWarning, stacklevel=3
            )
            sound = Silence()
        yield sound


def _first_video_time(source: Any) -> Fraction:
    """In seconds; where sound begins if there is no video."""
    stream = (source.streams.video or source.streams.audio)[0]
    return Fraction(stream.start_time or 0) * (stream.time_base or 0)
