"""Sound under a video that is written: copied or encoded, in step with the pictures, never longer than they are."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from diffvas.export import save_completion
from diffvas.sound import SoundWarning
from diffvas.types import Clip, Completion
from diffvas.video import frame_times, read_clip, write_mp4
from export_factories import make_completion

RATE = 48_000
CLICK = 0.6  # seconds from the first frame


def write_source(
    path: Path,
    codec: str = "aac",
    *,
    channels: int = 1,
    frames: int = 15,
    seconds: float = 1.5,
    start: float = 0.0,
    times: list[float] | None = None,
) -> Path:
    """A video of 10 frames a second and a tone that begins at CLICK; both start late by ``start`` seconds."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        sound: Any = container.add_stream(codec, rate=RATE, layout=layout)
        for t in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 10 * t, np.uint8), format="rgb24")
            frame.pts = round(((times[t] if times else t / 10) + start) * 1000)
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        wave = np.sin(np.arange(round(seconds * RATE)) * 0.2) * 0.5
        wave[: round(CLICK * RATE)] = 0
        format_name = sound.codec_context.format.name
        resampler = av.AudioResampler(format=format_name, layout=layout, rate=RATE)
        fifo = av.AudioFifo()
        plain = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (channels, 1)), "fltp", layout)
        plain.sample_rate = RATE
        for piece in resampler.resample(plain):
            piece.pts = None
            fifo.write(piece)
        done = round(start * RATE)
        while piece := fifo.read(sound.codec_context.frame_size or 1024, partial=True):
            piece.pts, piece.time_base, done = done, Fraction(1, RATE), done + piece.samples
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return path


def read_sound(path: Path) -> tuple[str, int, float, float] | None:
    """Codec, channels, when the tone begins, when the sound ends; seconds from the first video frame."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        begins, ends = float("nan"), 0.0
        for frame in container.decode(stream):
            wave = frame.to_ndarray()[0].astype(float) / (32768 if frame.format.name.startswith("s16") else 1)
            start = float(frame.pts * frame.time_base)
            loud = np.flatnonzero(np.abs(wave) > 0.1)
            if loud.size and np.isnan(begins):
                begins = start + loud[0] / frame.sample_rate
            ends = start + frame.samples / frame.sample_rate
        return stream.codec_context.name, stream.codec_context.channels, begins, ends


def pictures(count: int = 15) -> list[np.ndarray]:
    return [np.full((32, 48, 3), 10 * t, np.uint8) for t in range(count)]


@pytest.mark.parametrize(
    ("name", "codec", "channels", "expected"),
    [
        ("a.mp4", "aac", 1, ("aac", 1)),
        ("a.mkv", "libmp3lame", 2, ("mp3float", 2)),
        ("a.mkv", "pcm_s16le", 1, ("aac", 1)),
        ("a.mkv", "flac", 6, ("aac", 2)),
        ("a.mkv", "libopus", 2, ("aac", 2)),
        ("a.ts", "aac", 2, ("aac", 2)),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_sound_stays_in_step(
    tmp_path: Path, name: str, codec: str, channels: int, expected: tuple[str, int], start: float
) -> None:
    source = write_source(tmp_path / name, codec, channels=channels, start=start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_mp4(tmp_path / "out.mp4", pictures(), 10.0, sound_of=source)
    found = read_sound(tmp_path / "out.mp4")
    assert found is not None and found[:2] == expected
    assert found[2] == pytest.approx(CLICK, abs=0.05) and found[3] == pytest.approx(1.5, abs=0.08)
    assert read_clip(tmp_path / "out.mp4").num_frames == 15
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "pcm_s16le")):
        source = write_source(tmp_path / name, codec, seconds=5.0)
        write_mp4(tmp_path / "out.mp4", pictures(8), 10.0, sound_of=source)
        found = read_sound(tmp_path / "out.mp4")
        assert found is not None and found[3] == pytest.approx(0.8, abs=0.06)


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "pcm_s16le")):
        source = write_source(tmp_path / name, codec)
        written = set()
        for _ in range(3):
            write_mp4(tmp_path / "out.mp4", pictures(), 10.0, sound_of=source)
            written.add((tmp_path / "out.mp4").read_bytes())
        assert len(written) == 1


def test_silence(tmp_path: Path) -> None:
    write_mp4(tmp_path / "silent.mp4", pictures(3), 10.0)
    (tmp_path / "frames").mkdir()
    for source in (tmp_path / "silent.mp4", tmp_path / "frames", None):
        write_mp4(tmp_path / "out.mp4", pictures(3), 10.0, sound_of=source)
        assert read_sound(tmp_path / "out.mp4") is None
        assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "silent.mp4").read_bytes()


def test_sound_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for source in (tmp_path / "text.mp4", tmp_path / "absent.mp4"):
        with pytest.warns(SoundWarning, match="cannot be read .* is left out"):
            write_mp4(tmp_path / "out.mp4", pictures(3), 10.0, sound_of=source)
        assert read_sound(tmp_path / "out.mp4") is None and read_clip(tmp_path / "out.mp4").num_frames == 3


def test_damaged_sound_does_not_cost_the_pictures(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.mkv", "flac")
    data = bytearray(source.read_bytes())
    data[len(data) // 2 :] = np.random.default_rng(0).bytes(len(data) - len(data) // 2)
    source.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoundWarning)
        write_mp4(tmp_path / "out.mp4", pictures(), 10.0, sound_of=source)
    assert read_clip(tmp_path / "out.mp4").num_frames == 15


# ---------------------------------------------------------------------------------------------------------------------
# previews


def completion_of(source: Path) -> Completion:
    clip = read_clip(source)
    made = make_completion(ids=(1,), size=clip.size, frames=clip.num_frames, content=False, probability=False)
    return Completion(clip, made.objects, {}, {})


def test_a_preview_has_the_sound_of_its_source(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.mp4")
    place = save_completion(completion_of(source), tmp_path / "out", source=source)
    found = read_sound(place / "preview.mp4")
    assert found is not None and found[2] == pytest.approx(CLICK, abs=0.05)
    assert read_sound(save_completion(completion_of(source), tmp_path / "out") / "preview.mp4") is None


def test_a_preview_keeps_the_times_of_its_source(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.25, 0.5, 1.0]
    source = write_source(tmp_path / "a.mkv", frames=6, times=times)
    completion = completion_of(source)
    place = save_completion(completion, tmp_path / "out", source=source)
    assert frame_times(place / "preview.mp4") == pytest.approx(times, abs=0.002)
    found = read_sound(place / "preview.mp4")
    assert found is not None and found[2] == pytest.approx(CLICK, abs=0.05)
    # another number of frames than the file has: nobody knows which are which, so they are evenly spaced
    clip = completion.clip
    other = Completion(Clip(clip.frames_u8[:4], 8.0), make_completion(ids=(1,), size=clip.size, frames=4).objects[:0])
    place = save_completion(other, tmp_path / "other", source=source)
    assert frame_times(place / "preview.mp4") == pytest.approx([0, 0.125, 0.25, 0.375], abs=0.002)


def test_a_folder_as_source(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for t in range(2):
        Image.new("RGB", (48, 32), (t, 0, 0)).save(tmp_path / "frames" / f"{t}.png")
    place = save_completion(completion_of(tmp_path / "frames"), tmp_path / "out", source=tmp_path / "frames")
    assert read_sound(place / "preview.mp4") is None
