"""Reading clips and depth: what is understood, and one sentence for everything that is not."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.video.stream
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from diffvas.video import frame_times, list_images, natural_key, read_clip, read_depth, stream_frames, write_mp4

SHARED_CLIPS = Path(__file__).parents[2] / "shared" / "clips"


def moving_picture(count: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    return [np.roll(base, 3 * t, axis=1) for t in range(count)]


def write_video(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    rotation: int | None = None,
    times: list[float] | None = None,
    pixels: str | None = None,
    **options: str,
) -> Path:
    """Ten frames a second, unless there are times in seconds."""
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(10))
        stream.codec_context.thread_count = 1  # the same bytes in every run
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels or {"ffv1": "bgr0", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for t, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[t] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# ---------------------------------------------------------------------------------------------------------------------
# video files


def test_mp4_roundtrip(tmp_path: Path) -> None:
    frames = moving_picture()
    write_mp4(tmp_path / "a.mp4", frames, 12.5)
    clip = read_clip(tmp_path / "a.mp4")
    assert clip.frames_u8.shape == (12, 48, 64, 3)
    assert (clip.fps, clip.name) == (12.5, "a")
    # brightness only: half-resolution colour cannot follow a picture as small and gaudy as this
    brightness = np.array([0.2126, 0.7152, 0.0722])
    assert np.abs((clip.frames_u8.astype(float) - np.stack(frames)) @ brightness).mean() < 3


@pytest.mark.parametrize("colour", [(200, 60, 30), (30, 200, 60), (20, 40, 220), (255, 255, 255), (0, 0, 0)])
def test_mp4_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    # a wrong matrix (BT.601 for 709) would be off by 10 and more
    write_mp4(tmp_path / "a.mp4", [np.full((48, 64, 3), colour, np.uint8)] * 3, 25.0)
    assert np.abs(read_clip(tmp_path / "a.mp4").frames_u8.astype(int) - colour).max() <= 4


def test_mp4_bytes_do_not_vary(tmp_path: Path) -> None:
    # noise, and memory in another state each time: that is what brought out x264's differences
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 170, 592, 3), dtype=np.uint8))
    written = set()
    for i in range(6):
        ballast = [np.full(592 * 170 * (i + 1), i, np.uint8) for _ in range(i)]
        write_mp4(tmp_path / "a.mp4", frames, 25.0)
        written.add((tmp_path / "a.mp4").read_bytes())
        del ballast
    assert len(written) == 1


def test_write_mp4_refuses_odd_sides_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^frames: expected even sides for yuv420p, got 63 x 48"):
        write_mp4(tmp_path / "a.mp4", moving_picture(width=63), 25.0)
    with pytest.raises(ValueError, match="^frames: expected at least one frame, got none"):
        write_mp4(tmp_path / "a.mp4", [], 25.0)


def test_odd_sizes_are_read_exactly(tmp_path: Path) -> None:
    frames = moving_picture(5, 51, 67)
    clip = read_clip(write_video(tmp_path / "odd.mkv", frames, codec="ffv1"))
    assert np.array_equal(clip.frames_u8, np.stack(frames))


@pytest.mark.parametrize(("rotation", "quarters"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_applied(tmp_path: Path, rotation: int, quarters: int) -> None:
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation to test with")
    frames = moving_picture(3)
    plain = read_clip(write_video(tmp_path / "plain.mp4", frames)).frames_u8
    turned = read_clip(write_video(tmp_path / "turned.mp4", frames, rotation=rotation)).frames_u8
    assert np.array_equal(turned, np.rot90(plain, quarters, axes=(1, 2)))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mov", "mpeg4", {"movflags": "faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.mkv", "ffv1", {}),
        ("a.avi", "mjpeg", {}),
        ("a.webm", "libvpx-vp9", {}),
    ],
)
@pytest.mark.parametrize("share", [0.85, 0.6, 0.2])
def test_truncated_videos(tmp_path: Path, name: str, codec: str, options: dict[str, str], share: float) -> None:
    path = write_video(tmp_path / name, moving_picture(30), codec=codec, **options)
    assert read_clip(path).num_frames == 30
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"(truncated|damaged) at frame \d+|cannot be decoded|no frames"):
        read_clip(path)


def test_truncation_before_the_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_picture())
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(ValueError, match="^path: expected a video file, got .*cannot be decoded"):
        read_clip(path)


def test_damage_in_the_middle(tmp_path: Path) -> None:
    # wide enough to hit the start of a frame: a few flipped bits may decode to another valid picture
    path = write_video(tmp_path / "a.mp4", moving_picture(30), movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="^path: expected a whole video, got .* frame") as caught:
        read_clip(path)
    place = re.search(r"frame (\d+) \((\d+\.\d\d) s\)", str(caught.value))
    assert place is not None and float(place[2]) == pytest.approx(int(place[1]) / 10)
    assert 1 <= int(place[1]) <= 28


def test_truncation_says_when(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", moving_picture(30), codec="mjpeg")
    data = path.read_bytes()
    third = data.index(b"movi") + (len(data) - data.index(b"movi")) // 3
    path.write_bytes(data[:third])
    read = []
    with pytest.raises(ValueError, match=r"(frame (\d+)) \((\d+\.\d\d) s\)") as caught:
        read += stream_frames(path)
    place = re.search(r"frame (\d+) \((\d+\.\d\d) s\)", str(caught.value))
    assert place is not None and float(place[2]) == pytest.approx(int(place[1]) / 10)


# ---------------------------------------------------------------------------------------------------------------------
# frame by frame, and when


def test_frames_one_by_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_picture(7))
    frames = list(stream_frames(path))
    assert np.array_equal(np.stack([frame.rgb_u8 for frame in frames]), read_clip(path).frames_u8)
    assert [frame.seconds for frame in frames] == pytest.approx([t / 10 for t in range(7)])
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    path.unlink()
    assert [frame.seconds for frame in stream_frames(tmp_path)] == frame_times(tmp_path) == [0.0, 0.04]


def test_a_truncated_video_gives_its_whole_frames_first(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_picture(30), codec="ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = []
    with pytest.raises(ValueError, match=r"(truncated at|damaged at|decoded from) frame 1\d \(1\.\d\d s\)"):
        for frame in stream_frames(path):
            read.append(frame)
    assert 10 <= len(read) < 20


TIMES = [0.0, 0.1, 0.2, 0.25, 0.3, 0.9, 1.0, 2.0]


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
def test_variable_frame_rate(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, moving_picture(8), codec=codec, times=TIMES)
    assert frame_times(path) == pytest.approx(TIMES, abs=0.002)
    assert [frame.seconds for frame in stream_frames(path)] == pytest.approx(TIMES, abs=0.002)
    clip = read_clip(path)
    assert clip.num_frames == 8  # one per frame of the file, none repeated or dropped
    assert clip.fps == pytest.approx(3.5, rel=0.15)  # 8 frames in 2 seconds and a bit


def test_written_times(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving_picture(8), 3.5, times=TIMES)
    assert frame_times(tmp_path / "a.mp4") == pytest.approx(TIMES, abs=1e-4)
    assert np.array_equal(read_clip(tmp_path / "a.mp4").frames_u8.shape, (8, 48, 64, 3))
    with pytest.raises(ValueError, match="^times: expected one for every frame, got 3"):
        write_mp4(tmp_path / "a.mp4", moving_picture(8), 3.5, times=TIMES[:3])


@pytest.mark.parametrize("fps", [0.01, 1.0, 23.976, 29.97, 59.94, 1000.0])
def test_rates(tmp_path: Path, fps: float) -> None:
    write_mp4(tmp_path / "a.mp4", moving_picture(3), fps)
    assert read_clip(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# unusual and lying files


def test_ten_bits_and_half_chroma(tmp_path: Path) -> None:
    smooth = [np.full((50, 70, 3), (40 + 9 * t, 180, 90), np.uint8) for t in range(4)]
    for name, codec in (("a.mkv", "ffv1"), ("a.mov", "prores_ks"), ("a.mp4", "libx264")):
        clip = read_clip(write_video(tmp_path / name, smooth, codec=codec, pixels="yuv422p10le"))
        assert clip.size == (50, 70) and np.abs(clip.frames_u8.astype(int) - np.stack(smooth)).max() <= 4


def test_very_wide(tmp_path: Path) -> None:
    frames = [np.tile(np.arange(16_000, dtype=np.uint16)[None, :, None] // 63, (6, 1, 3)).astype(np.uint8)] * 2
    clip = read_clip(write_video(tmp_path / "a.mkv", frames, codec="ffv1"))
    assert np.array_equal(clip.frames_u8, np.stack(frames))


def patched(data: bytes, tag: bytes, offset: int, layout: str) -> bytes:
    """A file with two thousand million in place of a number, ``offset`` bytes behind a tag."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, data.index(tag) + offset, 2_000_000_000)
    return bytes(changed)


def test_headers_that_lie(tmp_path: Path) -> None:
    mp4 = write_video(tmp_path / "a.mp4", moving_picture(20)).read_bytes()
    avi = write_video(tmp_path / "a.avi", moving_picture(20), codec="mjpeg").read_bytes()
    harmless = {
        "stts.mp4": patched(mp4, b"stts", 12, ">I"),
        "mdhd.mp4": patched(mp4, b"mdhd", 20, ">I"),
        "avih.avi": patched(avi, b"avih", 24, "<I"),
    }
    for name, data in harmless.items():
        (tmp_path / name).write_bytes(data)
        assert read_clip(tmp_path / name).num_frames == 20
    (tmp_path / "strh.avi").write_bytes(patched(avi, b"strh", 40, "<I"))
    with pytest.raises(ValueError, match=r"of 2000000000 frames, got '.*', which is truncated at frame 20 \(2\.00 s\)"):
        read_clip(tmp_path / "strh.avi")
    (tmp_path / "stsz.mp4").write_bytes(patched(mp4, b"stsz", 12, ">I"))
    with pytest.raises(ValueError, match="^path: expected a video file, got .* cannot be decoded"):
        read_clip(tmp_path / "stsz.mp4")


def test_no_frames_in_a_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
        container.start_encoding()
    for read in (read_clip, lambda path: list(stream_frames(path))):
        with pytest.raises(ValueError, match="^path: expected a video"):
            read(tmp_path / "a.mkv")


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="^path: expected a video file or a folder of images, got no such path"):
        read_clip(tmp_path / "absent.mp4")
    (tmp_path / "notes.txt").write_text("a text\n" * 500)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("notes.txt", "noise.mp4", "empty.mp4"):
        with pytest.raises(ValueError, match=f"^path: expected a video file, got '.*{name}'"):
            read_clip(tmp_path / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="single picture"):
        read_clip(tmp_path / "one.png")


def test_sound_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match="no video stream"):
        read_clip(tmp_path / "a.wav")


def test_a_song_with_a_cover(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        sound: Any = container.add_stream("aac", rate=8000, layout="mono")
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux([*sound.encode(frame), *sound.encode()])
    with pytest.raises(ValueError, match="no video stream"):
        read_clip(tmp_path / "a.m4a")


# ---------------------------------------------------------------------------------------------------------------------
# folders


def test_natural_order(tmp_path: Path) -> None:
    names = ["frame10.png", "frame2.png", "frame1.PNG", ".frame0.png", "notes.txt"]
    for i, name in enumerate(names):
        if not name.endswith("txt"):
            Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / name, format="png")
    (tmp_path / "notes.txt").write_text("no image")
    assert [p.name for p in list_images(tmp_path)] == ["frame1.PNG", "frame2.png", "frame10.png"]
    clip = read_clip(tmp_path)
    assert clip.frames_u8[:, 0, 0, 0].tolist() == [2, 1, 0]
    assert (clip.fps, clip.name) == (25.0, tmp_path.name)
    assert natural_key("a2b10") < natural_key("a10b2") and natural_key("2") < natural_key("a")


def test_frames_of_any_mode(tmp_path: Path) -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    Image.fromarray(grey).save(tmp_path / "0.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "1.png")
    Image.fromarray(np.dstack([grey] * 3 + [np.zeros_like(grey)])).save(tmp_path / "2.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "3.png")
    frames = read_clip(tmp_path).frames_u8
    assert all(np.array_equal(frame, np.dstack([grey] * 3)) for frame in frames)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no frames"):
        read_clip(tmp_path)
    Image.new("RGB", (8, 6)).save(tmp_path / "0.png")
    Image.new("RGB", (8, 7)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"one size, got 8 x 6 pixels in 0\.png and 8 x 7 pixels in 1\.png"):
        read_clip(tmp_path)
    Image.new("RGB", (8, 6)).save(tmp_path / "1.jpg")
    with pytest.raises(ValueError, match=r"one image per frame, got 1\.jpg and 1\.png"):
        read_clip(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_unreadable_images_are_named(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for i in range(2):
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    data = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"expected a readable image, got '.*1\.png', which cannot be decoded"):
        read_clip(tmp_path)


@pytest.mark.parametrize("name", ["birdcage", "horse", "person"])
def test_real_clips(name: str) -> None:
    folder = SHARED_CLIPS / name / "frames"
    if not folder.is_dir():
        pytest.skip("the shared clips are not beside this checkout")
    sizes = {"birdcage": (524, 640), "horse": (720, 1280), "person": (800, 1280)}
    clip = read_clip(folder)
    assert (clip.num_frames, clip.size) == (25, sizes[name])


# ---------------------------------------------------------------------------------------------------------------------
# depth


def test_depth_from_arrays(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).random((3, 4, 5)) * 9 - 2
    np.savez(tmp_path / "a.npz", depth=depth, other=np.zeros(3))
    np.savez(tmp_path / "b.npz", depth.astype(np.float16))
    np.save(tmp_path / "c.npy", (depth * 100).astype(np.int16))
    for name, factor, tolerance in (("a.npz", 1, 1e-6), ("b.npz", 1, 1e-2), ("c.npy", 100, 1)):
        read = read_depth(tmp_path / name, (4, 5), 3)
        assert read.dtype == np.float32 and np.abs(read - depth * factor).max() <= tolerance


def test_depth_from_images(tmp_path: Path) -> None:
    depth = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    for bits, scale in ((8, 1), (16, 1000)):
        folder = tmp_path / str(bits)
        folder.mkdir()
        for t in range(3):
            Image.fromarray((depth[t] * scale).astype(np.uint8 if bits == 8 else np.uint16)).save(folder / f"{t}.png")
        assert np.array_equal(read_depth(folder, (4, 5), 3), depth.astype(np.float32) * scale)
    Image.new("RGB", (5, 4)).save(tmp_path / "8" / "2.png")
    with pytest.raises(ValueError, match=r"^depth: expected grey .*mode RGB in 2\.png"):
        read_depth(tmp_path / "8", (4, 5), 3)
    with pytest.raises(ValueError, match="^depth: expected images of 6 x 4 pixels, got 5 x 4"):
        read_depth(tmp_path / "16", (4, 6), 3)
    with pytest.raises(ValueError, match="^depth: expected 4 images, one per frame, got 3"):
        read_depth(tmp_path / "16", (4, 5), 4)


def test_bad_depth(tmp_path: Path) -> None:
    good = np.zeros((3, 4, 5))
    table: dict[str, tuple[dict[str, Any], str]] = {
        "shape": ({"depth": good[:2]}, r"expected shape \(T, H, W\) = \(3, 4, 5\) like the clip, got \(2, 4, 5\)"),
        "axes": ({"depth": good[0]}, "expected shape"),
        "words": ({"depth": np.full((3, 4, 5), "a")}, "expected numbers, got dtype"),
        "keys": ({"a": good, "b": good}, r"expected an array named 'depth' .*got \['a', 'b'\]"),
        "objects": ({"depth": np.array([None])}, "cannot be read"),
    }
    for name, (arrays, message) in table.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            read_depth(tmp_path / f"{name}.npz", (4, 5), 3)
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match="cannot be read"):
        read_depth(tmp_path / "text.npz", (4, 5), 3)
    with pytest.raises(ValueError, match=r"got '.*text\.exr'"):
        (tmp_path / "text.exr").write_text("no depth")
        read_depth(tmp_path / "text.exr", (4, 5), 3)
    with pytest.raises(FileNotFoundError, match="^depth: .*no such path"):
        read_depth(tmp_path / "absent", (4, 5), 3)
