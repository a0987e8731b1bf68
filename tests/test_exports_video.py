"""Videos with alpha: round trips, exact where the format is, within a stated tolerance where it is not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from diffvas.exports import ExportOptions, export_result
from diffvas.exports.alpha_video import CODECS, read_alpha_video, write_alpha_video
from diffvas.video import read_clip
from export_factories import make_completion

# largest and mean error in levels of 255: alpha, and colour where alpha is 255; of smooth pictures at these small sizes
TOLERANCES = {"ffv1": (0, 0, 0.0), "prores": (0, 6, 1.0), "vp9": (8, 40, 6.0)}
SIZES = [(48, 64), (51, 67), (1, 1), (1, 40), (37, 2), (2, 2)]


def smooth_rgba(size: tuple[int, int], count: int = 3) -> np.ndarray:
    """A moving disc of smooth colours with a soft and a hard alpha edge, black where it is clear."""
    y, x = np.mgrid[: size[0], : size[1]]
    frames = np.zeros((count, *size, 4), np.uint8)
    for t in range(count):
        distance = np.hypot(y - size[0] / 2, x - size[1] / 2 - t)
        alpha = np.where(distance <= max(size) / 3, 255, 0)
        alpha[: size[0] // 4] = alpha[: size[0] // 4] // 2
        colours = np.stack([60 + 2 * x % 120, 220 - 2 * y % 120, np.full_like(x, 150)], -1)
        frames[t] = np.dstack([colours, alpha])
        frames[t][alpha == 0] = 0
    return frames


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("codec", CODECS)
def test_round_trip(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    frames = smooth_rgba(size)
    write_alpha_video(tmp_path / "a", frames, 29.97, codec)
    read = np.stack(list(read_alpha_video(tmp_path / "a")))
    assert read.shape == frames.shape and read.dtype == np.uint8
    alpha, colour, mean = TOLERANCES[codec]
    error = np.abs(read.astype(int) - frames.astype(int))
    assert error[..., 3].max() <= alpha
    opaque = frames[..., 3] == 255
    if opaque.any() and codec == "ffv1":
        assert np.array_equal(read, frames)
    elif opaque.any() and min(size) > 8:
        inside = error[..., :3][opaque]
        assert inside.mean() <= mean and np.percentile(inside, 95) <= colour


def test_noise_through_prores_and_ffv1(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 4), dtype=np.uint8)
    write_alpha_video(tmp_path / "a.mkv", frames, 25.0, "ffv1")
    assert np.array_equal(np.stack(list(read_alpha_video(tmp_path / "a.mkv"))), frames)
    write_alpha_video(tmp_path / "a.mov", frames, 25.0, "prores")
    read = np.stack(list(read_alpha_video(tmp_path / "a.mov")))
    assert np.array_equal(read[..., 3], frames[..., 3])  # 16 bits of alpha, coded without loss
    assert np.abs(read[..., :3].astype(int) - frames[..., :3]).mean() < 8


def test_vp9_alpha_needs_libvpx(tmp_path: Path) -> None:
    frames = smooth_rgba((48, 64))
    write_alpha_video(tmp_path / "a.webm", frames, 25.0, "vp9")
    with av.open(str(tmp_path / "a.webm")) as container:
        stream = container.streams.video[0]
        assert stream.metadata["alpha_mode"] == "1"
        assert next(container.decode(stream)).format.name == "yuv420p"  # libav's decoder says nothing of the alpha
    read = next(read_alpha_video(tmp_path / "a.webm"))
    assert (read[..., 3] < 8).any() and (read[..., 3] > 247).any()


def test_rate_size_and_colour_tags(tmp_path: Path) -> None:
    for codec, spec in CODECS.items():
        path = tmp_path / f"{codec}{spec.suffix}"
        write_alpha_video(path, smooth_rgba((51, 67), 5), 29.97, codec)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert abs(float(stream.average_rate) - 30000 / 1001) < 0.01
            assert (stream.height, stream.width) == (51, 67)
            if spec.lossy:
                assert stream.codec_context.colorspace == 1  # BT.709
        assert read_clip(path).num_frames == 5


def test_edges_do_not_darken(tmp_path: Path) -> None:
    # a bright object on clear black: with the black in the picture, 4:2:0 would pull the edge's colour down
    completion = make_completion(ids=(1,), size=(64, 96), frames=2, hidden=False)
    rgba = completion.objects[0].content_rgba
    assert rgba is not None
    mask = completion.objects[0].amodal_masks
    rgba[mask, :3] = completion.clip.frames_u8[mask] = (250, 240, 60)
    out = export_result(completion, ["vp9", "prores"], tmp_path / "out")
    for name, limit in (("vp9/1.webm", 8), ("prores/1.mov", 3)):
        read = next(read_alpha_video(out / name))
        assert np.abs(read[mask[0]][:, :3].astype(int) - (250, 240, 60)).max() <= limit


def test_premultiplied_video(tmp_path: Path) -> None:
    completion = make_completion(ids=(1,), frames=1)
    rgba = completion.objects[0].content_rgba
    assert rgba is not None
    rgba[0, 40:, 50:] = (200, 100, 50, 102)
    out = export_result(completion, ["ffv1"], tmp_path / "out", ExportOptions(alpha="premultiplied"))
    assert next(read_alpha_video(out / "ffv1" / "1.mkv"))[45, 60].tolist() == [80, 40, 20, 102]


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^codec: expected one of prores, ffv1, vp9, got 'h264'"):
        write_alpha_video(tmp_path / "a", smooth_rgba((4, 4)), 25.0, "h264")
    with pytest.raises(ValueError, match="^frames: expected at least one frame, got none"):
        write_alpha_video(tmp_path / "a", [], 25.0, "ffv1")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height = stream.width = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(ValueError, match="^path: expected a video with alpha, got yuv420p"):
        next(read_alpha_video(tmp_path / "a.mkv"))


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_disk_is_an_error(codec: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_alpha_video("/dev/full", np.random.default_rng(0).integers(0, 256, (2, 90, 90, 4), np.uint8), 25.0, codec)
