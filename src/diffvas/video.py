"""Reading clips and depth from files.

A clip is a video file (anything PyAV decodes) or a folder of images. Pixels are taken as stored: a rotation that a
phone wrote into the file is applied, non-square pixels are not stretched. Every error is one sentence that names what
was expected and what came, because the command line prints it as it is.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import zipfile
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffvas.mp4 import write_mp4 as write_mp4  # re-exported: readers and writer are one room
from diffvas.types import F32, U8, Clip

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
FOLDER_FPS = 25.0  # a folder of images does not say; the number only sets the preview's speed

# libav also "decodes" a text file to a video of its letters, and a single picture to one frame
_TEXT_FORMATS = {"tty", "bin", "xbin", "idf", "adf"}
_PICTURE_FORMATS = re.compile(r"image2|.*_pipe")


# ---------------------------------------------------------------------------------------------------------------------
# folders of images


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which "frame2" comes before "frame10"."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder in natural order; other files and hidden ones are passed over.

    Raises:
        ValueError: two files share a number or name, as 00000.jpg and 00000.png do: which one is the frame?
    """
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    files = sorted((p for p in files if p.is_file()), key=lambda p: (natural_key(p.stem), p.name))
    for first, second in itertools.pairwise(files):
        if first.stem == second.stem:
            raise ValueError(f"expected one image per frame, got {first.name} and {second.name} in '{folder}'")
    return files


def open_image(path: Path) -> Image.Image:
    """Open and fully decode one image file.

    Raises:
        ValueError: the file cannot be decoded, or stops short.
    """
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), path.name).strip() or type(error).__name__
        raise ValueError(f"expected a readable image, got '{path}', which cannot be decoded ({reason})") from error
    return image


def _image_to_rgb(image: Image.Image) -> U8:
    """(H, W, 3) uint8 of a decoded image of any mode; alpha is dropped, 16-bit grey keeps its upper byte."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _read_image_folder(folder: Path) -> Clip:
    count = len(list_images(folder))
    frames = np.empty((0, 0, 0, 3), dtype=np.uint8)
    for t, rgb in enumerate(_image_frames(folder)):
        if t == 0:
            frames = np.empty((count, *rgb.shape), dtype=np.uint8)
        frames[t] = rgb
    return Clip(frames, fps=FOLDER_FPS, name=folder.resolve().name)


def _image_frames(folder: Path, numbers: Sequence[int] | None = None) -> Iterator[U8]:
    files = list_images(folder)
    if not files:
        raise ValueError(f"path: expected images ({_suffix_list()}) in the folder '{folder}', got no frames")
    shape: tuple[int, ...] | None = None
    for file in files if numbers is None else [files[t] for t in numbers]:
        frame = _image_to_rgb(open_image(file))
        if shape is not None and frame.shape != shape:
            raise ValueError(
                f"path: expected images of one size, got {_size_words(shape)} in {files[0].name} and "
                f"{_size_words(frame.shape)} in {file.name}"
            )
        shape = frame.shape
        yield frame


def _suffix_list() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))


def _size_words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


# ---------------------------------------------------------------------------------------------------------------------
# video files


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """One frame of a video.

    Attributes:
        rgb_u8: (H, W, 3) uint8, upright.
        seconds: when it is shown, counted from the first frame; ascending. number: counted from 0.
    """

    rgb_u8: U8
    seconds: float
    number: int = 0


def read_clip(path: str | Path) -> Clip:
    """Read a video file or a folder of images.

    Images are sorted naturally (frame2 before frame10) and get 25 frames per second; a video keeps its own mean rate
    (:func:`frame_times` has each frame's time).

    Raises:
        FileNotFoundError: no such path.
        ValueError: not a video, no frames, a truncated or damaged video (with the frame and the time where it stops),
            an unreadable image (named), or frames of differing size.
    """
    path = Path(path)
    if path.is_dir():
        return _read_image_folder(path)
    with _open_video(path) as container:
        frames: list[U8] = []
        times: list[float] = []
        for frame in _decode(container, path):
            frames.append(frame.rgb_u8)
            times.append(frame.seconds)
        fps = _mean_rate(_stated_rate(container.streams.video[0]), times)
    stack = np.empty((len(frames), *frames[0].shape), dtype=np.uint8)
    for t in reversed(range(len(frames))):
        stack[t] = frames.pop()  # let go of each frame as it is copied: a clip never needs twice its size
    return Clip(stack, fps=fps, name=path.stem)


def stream_frames(path: str | Path) -> Iterator[TimedFrame]:
    """The frames of a video file or a folder of images, one after another, in the memory of one.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_clip`; what is wrong further on in a file is found on the way, so
            that a truncated file raises after its last whole frame.
    """
    path = Path(path)
    if path.is_dir():
        for i, rgb in enumerate(_image_frames(path)):
            yield TimedFrame(rgb, i / FOLDER_FPS, i)
        return
    with _open_video(path) as container:
        yield from _decode(container, path)


@dataclass(frozen=True)
class Footage:
    """What a video file or a folder of images holds, without its frames.

    Attributes:
        path: where it is. name: of the clip. fps: mean frames per second. size: (height, width) of the upright frames.
        times: when each frame is shown, in seconds from the first one.
    """

    path: Path
    name: str
    fps: float
    size: tuple[int, int]
    times: tuple[float, ...]

    @property
    def num_frames(self) -> int:
        return len(self.times)

    def frames(self, numbers: Sequence[int]) -> Iterator[U8]:
        """The frames (H, W, 3) uint8 of these numbers, which ascend; only they become pictures."""
        wanted = list(numbers)
        if not wanted:
            return
        if self.path.is_dir():
            yield from _image_frames(self.path, wanted)
            return
        with _open_video(self.path) as container:
            for frame in _decode(container, self.path, frozenset(wanted)):
                yield frame.rgb_u8
                if frame.number == wanted[-1]:
                    return


def scan_clip(path: str | Path, visit: Callable[[U8], None] | None = None) -> Footage:
    """Read a video or a folder of images from end to end, in the memory of one frame.

    Only this tells how many frames there are and whether all can be read: headers lie. ``visit`` gets every frame.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_clip`.
    """
    path = Path(path)
    times: list[float] = []
    size, fps = (0, 0), FOLDER_FPS
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            name, frames = path.resolve().name, stream_frames(path)
        else:
            container = stack.enter_context(_open_video(path))
            name, frames = path.stem, _decode(container, path)
        for frame in frames:
            times.append(frame.seconds)
            size = (frame.rgb_u8.shape[0], frame.rgb_u8.shape[1])
            if visit is not None:
                visit(frame.rgb_u8)
        if not path.is_dir():
            fps = _mean_rate(_stated_rate(container.streams.video[0]), times)
    return Footage(path, name, fps, size, tuple(times))


def frame_times(path: str | Path) -> list[float]:
    """When each frame of a video is shown, in seconds from the first one; ascending.

    Read from the container, nothing is decoded. Where it has no times (AVI), or for a folder of images, frames are
    evenly spaced. Raises as :func:`read_clip`, as far as it shows without decoding.
    """
    path = Path(path)
    if path.is_dir():
        return [i / FOLDER_FPS for i in range(len(list_images(path)))]
    with _open_video(path) as container:
        stream = _video_stream(container, path)
        try:
            packets = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        except av.error.FFmpegError as error:
            raise ValueError(f"path: expected a whole video, got '{path}' ({_reason(error)})") from error
        known = sorted({pts for pts in packets if pts is not None})
        if len(known) < len(packets) or not stream.time_base:
            return [i / _stated_rate(stream) for i in range(len(packets))]
        return [float((pts - known[0]) * stream.time_base) for pts in known]


def _open_video(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise FileNotFoundError(f"path: expected a video file or a folder of images, got no such path '{path}'")
    try:
        # "file:" keeps libav from taking a name such as "concat:a.mp4" for a protocol; playlists reach local files only
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        reason = _reason(error)
        raise ValueError(f"path: expected a video file, got '{path}', which cannot be decoded ({reason})") from error
    return container


def _reason(error: Exception) -> str:
    """libav's reason, without the number and the path around it."""
    return str(getattr(error, "strerror", None) or error)


def _video_stream(container: av.container.InputContainer, path: Path) -> Any:
    """The video stream of a file; ValueError for text, single pictures and sound, with or without a cover picture."""
    name = container.format.name
    if name in _TEXT_FORMATS:
        raise ValueError(f"path: expected a video file, got '{path}', which is text")
    if _PICTURE_FORMATS.fullmatch(name):
        raise ValueError(f"path: expected a video file or a folder of images, got the single picture '{path}'")
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    stream = next((s for s in container.streams.video if not s.disposition & covers), None)
    if stream is None:
        raise ValueError(f"path: expected a video file, got '{path}', which has no video stream")
    return stream


def _stated_rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)


def _mean_rate(stated: float, times: Sequence[float]) -> float:
    """Frames per second: as stated, unless the frames' own times say otherwise by more than rounding."""
    if len(times) < 2 or times[-1] <= times[0]:
        return stated
    mean = (len(times) - 1) / (times[-1] - times[0])
    return stated if abs(stated / mean - 1.0) < 0.01 else mean


def _decode(
    container: av.container.InputContainer, path: Path, wanted: Container[int] | None = None
) -> Iterator[TimedFrame]:
    """The frames of a video, or those of the wanted numbers."""
    stream = _video_stream(container, path)
    stream.thread_type = "SLICE"  # with frame threads, the number of the damaged frame would depend on timing
    fps, base = _stated_rate(stream), stream.time_base or Fraction(0)
    count, size = 0, None
    origin, end = 0.0, 0.0  # the file's time of the first frame, and of the end of the last one

    def place() -> str:
        return f"frame {count} ({end - origin:.2f} s)"

    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError(f"path: expected a whole video, got '{path}', which is damaged at {place()}")
            skipped = wanted is not None and count not in wanted
            rgb = None if skipped else _upright(frame)
            if rgb is not None and size is not None and rgb.shape != size:
                raise ValueError(
                    f"path: expected frames of one size, got {_size_words(size)} and from {place()} on "
                    f"{_size_words(rgb.shape)} in '{path}'"
                )
            start = end if frame.pts is None else float(frame.pts * base)
            if count == 0:
                origin, end = start, start
            start = max(start, end - 0.5 / fps)  # stated lengths round, but no frame comes before the last one
            if rgb is not None:
                size = rgb.shape
                yield TimedFrame(rgb, start - origin, count)
            count += 1
            end = start + (float(frame.duration * base) if frame.duration else 1.0 / fps)
    except av.error.FFmpegError as error:
        raise ValueError(
            f"path: expected a whole video, got '{path}', which cannot be decoded from {place()} on ({_reason(error)})"
        ) from error
    if not count:
        raise ValueError(f"path: expected a video with frames, got no frames in '{path}'")
    _check_whole(container, stream, count, end - origin, path)


def _upright(frame: av.VideoFrame) -> U8:
    """(H, W, 3) uint8, turned as the file's display matrix says (phones store portrait video lying down)."""
    rgb = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarters)) if quarters else rgb


def _check_whole(container: av.container.InputContainer, stream: Any, decoded: int, seconds: float, path: Path) -> None:
    """Raise if the file stops before what its header promises.

    A header promises a number of frames, a duration, both, or (a broadcast stream) nothing. Edit lists and dropped
    frames make the first too large, so a video is whole when either promise is kept, with a slack of a frame and a
    half in time, because containers round.
    """
    fps = _stated_rate(stream)
    promised = stream.frames or None
    if promised is not None and decoded >= promised:
        return
    duration = _promised_seconds(container, stream)
    if duration is None and promised is None:
        return
    if duration is not None and seconds >= duration - 1.5 / fps:
        return
    expected = promised if promised is not None else round((duration or 0.0) * fps)
    raise ValueError(
        f"path: expected a whole video of {expected} frames, got '{path}', which is truncated at frame {decoded} "
        f"({seconds:.2f} s)"
    )


def _promised_seconds(container: av.container.InputContainer, stream: Any) -> float | None:
    """How long the file says that its video is; None if it does not say.

    Only the MP4 family's durations follow its edit lists; AVI's are worked out from what is left of the file, so there
    the promised number of frames decides. Matroska has no duration per stream, except as a tag; the file's own
    duration counts only where nothing but the video could have made it that long.
    """
    if stream.frames and stream.average_rate and not container.format.name.startswith("mov"):
        return float(stream.frames / stream.average_rate)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


# ---------------------------------------------------------------------------------------------------------------------
# arrays in files, and depth


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by key, or the array of an .npy file under "". Nothing is unpickled.

    Raises:
        ValueError: not such a file, damaged, or holding Python objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"expected a readable .npz or .npy file, got '{path}', which cannot be read ({reason})"
        ) from error


def read_depth(path: str | Path, clip_size: tuple[int, int], num_frames: int) -> F32:
    """Read a clip's inverse depth, larger = nearer, on any scale.

    Args:
        path: an .npz (the array "depth", or its only array) or .npy file of shape (T, H, W), or a folder of T grey
            8-bit or 16-bit images.
        clip_size: (height, width) of the clip.
        num_frames: T.

    Returns:
        (T, H, W) float32, values as in the file; where they are NaN or infinite, depth is unknown and
        :func:`diffvas.arrays.clean_depth` fills it.

    Raises:
        FileNotFoundError: no such path.
        ValueError: another shape, values that are not numbers, or an unreadable file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"depth: expected an .npz or .npy file or a folder, got no such path '{path}'")
    expected = (num_frames, *clip_size)
    if path.is_dir():
        return _read_depth_folder(path, expected)
    if path.suffix.lower() not in {".npz", ".npy"}:
        raise ValueError(f"depth: expected an .npz or .npy file or a folder of images, got '{path}'")
    arrays = load_arrays(path)
    key = "depth" if "depth" in arrays else next(iter(arrays), None)
    if key is None or (key != "depth" and len(arrays) != 1):
        raise ValueError(f"depth: expected an array named 'depth' in '{path}', got {sorted(arrays) or 'no array'}")
    array = arrays[key]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"depth: expected numbers, got dtype {array.dtype} in '{path}'")
    if array.shape != expected:
        raise ValueError(f"depth: expected shape (T, H, W) = {expected} like the clip, got {array.shape} in '{path}'")
    with np.errstate(over="ignore"):
        depth = array.astype(np.float32)
    return depth


def _read_depth_folder(folder: Path, expected: tuple[int, int, int]) -> F32:
    read = open_depth_folder(folder, expected[1:], expected[0])
    depth = np.empty(expected, dtype=np.float32)
    for t in range(expected[0]):
        depth[t] = read(t)
    return depth


def open_depth_folder(folder: Path, clip_size: tuple[int, int], num_frames: int) -> Callable[[int], F32]:
    """A folder of grey images as a function from a frame's number to its inverse depth (H, W) float32.

    Raises:
        ValueError: another number of images, or one of another size or kind; from the function: an unreadable one.
    """
    files = list_images(folder)
    if len(files) != num_frames:
        raise ValueError(f"depth: expected {num_frames} images, one per frame, got {len(files)} in '{folder}'")
    modes = set()
    for file in files:
        mode, (width, height) = _image_header(file)
        if mode != "L" and not mode.startswith("I"):
            raise ValueError(f"depth: expected grey 8-bit or 16-bit images, got mode {mode} in {file.name}")
        if (height, width) != clip_size:
            wanted, got = _size_words(clip_size[:2]), _size_words((height, width))
            raise ValueError(f"depth: expected images of {wanted}, got {got} in {file.name}")
        modes.add(mode)
    if len(modes) > 1:
        raise ValueError(f"depth: expected images of one bit depth, got {sorted(modes)} in '{folder}'")
    return lambda frame: np.asarray(open_image(files[frame])).astype(np.float32)


def _image_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) without decoding."""
    try:
        with Image.open(path) as image:
            return image.mode, image.size
    except (OSError, SyntaxError, ValueError):
        decoded = open_image(path)  # says what is wrong
        return decoded.mode, decoded.size
