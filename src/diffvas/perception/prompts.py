"""Prompts: how a person says which objects of a clip are meant, and the words of the command line for it.

A **point** or a **box** on a frame, a whole **mask** of a frame, or a **text**. Prompts are grouped by object; an
object may have prompts on several frames, and its first may stand anywhere in the clip.

Frames count from 0. Coordinates are pixels of the clip, x to the right and y down from the upper left corner: a point
(x, y) lies in the pixel of column floor(x) and row floor(y); a box reaches from its edge (x0, y0) up to (x1, y1), so
that 0, 0, width, height is the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffvas.perception.frames import Frames
from diffvas.types import Bool
from diffvas.video import open_image

MAX_OBJECTS = 255  # as many as a label image can hold
_MAX_NAME = 80
_SOFT_VALUES = 32  # more levels than this are soft edges, as in diffvas.masks


@dataclass(frozen=True)
class PointPrompt:
    """The pixel at (x, y) of a frame belongs to the object, or, with ``positive=False``, does not."""

    frame: int
    x: float
    y: float
    positive: bool = True

    def __str__(self) -> str:
        return f"point {self.frame},{self.x:g},{self.y:g},{'+' if self.positive else '-'}"


@dataclass(frozen=True)
class BoxPrompt:
    """The object fills the box from (x0, y0) to (x1, y1) of a frame."""

    frame: int
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(f"box: expected x0 < x1 and y0 < y1, got an empty box ({self})")

    def __str__(self) -> str:
        return f"box {self.frame},{self.x0:g},{self.y0:g},{self.x1:g},{self.y1:g}"


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """What is visible of the object in a frame: ``mask`` is (H, W) bool, the size of the clip; ``source`` names it."""

    frame: int
    mask: Bool
    source: str = "mask"

    def __post_init__(self) -> None:
        mask = self.mask
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"mask: expected an (H, W) bool array, got {getattr(mask, 'dtype', type(mask).__name__)}")
        if not mask.any():
            raise ValueError(f"mask: expected at least one pixel of the object, got none in '{self.source}'")

    def __str__(self) -> str:
        return f"mask {self.frame},{self.source}"


@dataclass(frozen=True)
class TextPrompt:
    """Every object of the clip that a short noun phrase fits, for example "the red cup"."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"text: expected a few words, got {self.text!r}")

    def __str__(self) -> str:
        return f"text {self.text!r}"


FramePrompt = PointPrompt | BoxPrompt | MaskPrompt
Prompt = FramePrompt | TextPrompt


@dataclass(frozen=True, eq=False)
class FramePrompts:
    """All prompts of one object on one frame: a mask, or at most one box and any number of points."""

    points: tuple[PointPrompt, ...] = ()
    box: BoxPrompt | None = None
    mask: Bool | None = None

    @property
    def starts(self) -> bool:
        """Whether the object can be found by these alone: more than negative points."""
        return self.box is not None or self.mask is not None or any(point.positive for point in self.points)


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """The prompts of one object.

    Attributes:
        object_id: 1 or more; becomes the id of its track.
        prompts: one text, or any number of points, boxes and masks in any order of frames.
        name: what to call it in messages.

    Raises:
        ValueError: no prompts, a bad id, text mixed with other prompts, nothing but negative points, or a frame with
            two boxes, two masks, or a mask beside other prompts.
    """

    object_id: int
    prompts: tuple[Prompt, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.object_id, bool) or not isinstance(self.object_id, int) or self.object_id < 1:
            raise ValueError(f"object_id: expected a whole number of 1 or more, got {self.object_id!r}")
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "name", self.name or str(self.object_id))
        if not self.prompts:
            raise ValueError(f"object: expected at least one prompt of object '{self.name}', got none")
        if self.text is not None:
            if len(self.prompts) > 1:
                raise ValueError(
                    f"text: expected a text alone, got {len(self.prompts)} prompts of object '{self.name}'; "
                    "give other prompts to another object"
                )
            return
        frames = self.by_frame()
        if not any(frame.starts for frame in frames.values()):
            raise ValueError(
                f"point: expected a positive point, a box or a mask of object '{self.name}', "
                f"got only negative points ({self.prompts[0]})"
            )

    @property
    def text(self) -> str | None:
        """The phrase of a text prompt, None where the object is shown on frames."""
        return next((prompt.text for prompt in self.prompts if isinstance(prompt, TextPrompt)), None)

    def by_frame(self) -> dict[int, FramePrompts]:
        """The prompts frame by frame, in order of frames."""
        found: dict[int, list[FramePrompt]] = {}
        for prompt in self.prompts:
            if not isinstance(prompt, TextPrompt):
                found.setdefault(prompt.frame, []).append(prompt)
        return {frame: self._frame(frame, found[frame]) for frame in sorted(found)}

    def _frame(self, frame: int, prompts: Sequence[FramePrompt]) -> FramePrompts:
        points = tuple(prompt for prompt in prompts if isinstance(prompt, PointPrompt))
        boxes = [prompt for prompt in prompts if isinstance(prompt, BoxPrompt)]
        masks = [prompt for prompt in prompts if isinstance(prompt, MaskPrompt)]
        if len(boxes) > 1:
            raise ValueError(f"box: expected one box on frame {frame} of object '{self.name}', got {len(boxes)}")
        if masks and len(prompts) > 1:
            raise ValueError(
                f"mask: expected a mask alone on frame {frame} of object '{self.name}', got {len(prompts)} prompts"
            )
        return FramePrompts(points, boxes[0] if boxes else None, masks[0].mask if masks else None)


def check_prompts(objects: Sequence[ObjectPrompts], clip: Frames) -> None:
    """Raise unless there are objects, with distinct ids, and every prompt lies inside the clip and its frames.

    Raises:
        ValueError: the first that is wrong, in one sentence.
    """
    if not objects:
        raise ValueError("object: expected at least one object to track, got no prompts")
    ids = [item.object_id for item in objects]
    if len(set(ids)) != len(ids):
        raise ValueError(f"object: expected distinct object ids, got {ids}")
    for item in objects:
        for prompt in item.prompts:
            if not isinstance(prompt, TextPrompt):
                _check_place(prompt, clip)


def _check_place(prompt: FramePrompt, clip: Frames) -> None:
    if not 0 <= prompt.frame < clip.num_frames:
        kind = str(prompt).split(" ", 1)[0]
        raise ValueError(f"{kind}: expected a frame from 0 to {clip.num_frames - 1} of the clip, got '{prompt}'")
    width, height = clip.width, clip.height
    if isinstance(prompt, PointPrompt) and not (0 <= prompt.x < width and 0 <= prompt.y < height):
        raise ValueError(f"point: expected x below {width} and y below {height}, inside the frame, got '{prompt}'")
    if isinstance(prompt, BoxPrompt):
        inside = 0 <= prompt.x0 and 0 <= prompt.y0 and prompt.x1 <= width and prompt.y1 <= height
        if not inside:
            raise ValueError(f"box: expected a box inside the frame of {width} x {height} pixels, got '{prompt}'")
    if isinstance(prompt, MaskPrompt) and prompt.mask.shape != clip.size:
        got = f"{prompt.mask.shape[1]} x {prompt.mask.shape[0]}"
        raise ValueError(f"mask: expected {width} x {height} pixels like the frames, got {got} in '{prompt.source}'")


# ---------------------------------------------------------------------------------------------------------------------
# the command line's words


def parse_point(text: str) -> PointPrompt:
    """``t,x,y`` or ``t,x,y,+`` or ``t,x,y,-``.

    Raises:
        ValueError: anything else.
    """
    wanted = "t,x,y or t,x,y,- (frame from 0, pixels)"
    parts = [part.strip() for part in text.split(",")]
    sign = parts.pop() if len(parts) == 4 else "+"
    if len(parts) != 3 or sign not in ("+", "-"):
        raise ValueError(f"point: expected {wanted}, got '{text}'")
    frame, (x, y) = _frame_number("point", parts[0], wanted, text), _numbers("point", parts[1:], wanted, text)
    return PointPrompt(frame, x, y, sign == "+")


def parse_box(text: str) -> BoxPrompt:
    """``t,x0,y0,x1,y1``.

    Raises:
        ValueError: anything else, or an empty box.
    """
    wanted = "t,x0,y0,x1,y1 (frame from 0, pixels)"
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 5:
        raise ValueError(f"box: expected {wanted}, got '{text}'")
    frame, (x0, y0, x1, y1) = _frame_number("box", parts[0], wanted, text), _numbers("box", parts[1:], wanted, text)
    return BoxPrompt(frame, x0, y0, x1, y1)


def parse_mask(text: str) -> MaskPrompt:
    """``t,file.png``: what is not black and not clear is the object; with soft edges, 128 and above is.

    Raises:
        ValueError: anything else, no such file, an unreadable one, or one without a pixel of the object.
    """
    wanted = "t,FILE (frame from 0, an image)"
    number, comma, name = text.partition(",")
    name = name.strip()
    if not comma or not name:
        raise ValueError(f"mask: expected {wanted}, got '{text}'")
    frame = _frame_number("mask", number.strip(), wanted, text)
    if not Path(name).is_file():
        raise ValueError(f"mask: expected an image file, got no such file '{name}'")
    return MaskPrompt(frame, _read_mask(Path(name)), name)


def parse_text(text: str) -> TextPrompt:
    """A short noun phrase."""
    return TextPrompt(" ".join(text.split()))


def _frame_number(kind: str, part: str, wanted: str, text: str) -> int:
    if not (part.isascii() and part.isdecimal()):
        raise ValueError(f"{kind}: expected {wanted}, got '{text}'")
    return int(part)


def _numbers(kind: str, parts: Sequence[str], wanted: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{kind}: expected {wanted}, got '{text}'")
    return values


def _read_mask(path: Path) -> Bool:
    """(H, W) bool of one image."""
    try:
        image = open_image(path)
    except ValueError as error:
        raise ValueError(f"mask: {error}") from error
    if image.mode == "P" and "transparency" not in image.info:
        indices = np.asarray(image)  # an id per pixel, as in DAVIS: 0 is background, whatever its colour
        return np.ascontiguousarray(indices != 0)
    if image.mode.startswith("I"):
        return np.ascontiguousarray(np.asarray(image) > 0)
    rgba = np.asarray(image.convert("RGBA"))
    clear = rgba[..., 3] < 128
    levels = np.where(clear, 0, rgba[..., :3].max(axis=2))
    if clear.any() and (len(np.unique(levels)) - 1 > _SOFT_VALUES or not levels.any()):
        return np.ascontiguousarray(~clear)  # a photo cut out: alpha is the mask
    soft = len(np.unique(levels)) - 1 > _SOFT_VALUES
    return np.ascontiguousarray(levels >= 128 if soft else levels > 0)


PARSERS: dict[str, Callable[[str], Prompt]] = {
    "point": parse_point,
    "box": parse_box,
    "mask": parse_mask,
    "text": parse_text,
}


def group_prompts(words: Sequence[tuple[str, str]]) -> list[ObjectPrompts]:
    """The prompts of a command line, in its order.

    Args:
        words: ("object", NAME), or a key of :data:`PARSERS` and its value. Prompts belong to the last name before them,
            those before any name to an object "1"; a name that comes again takes up its object again.

    Returns:
        Objects in the order of their first mention, numbered from 1.

    Raises:
        ValueError: a value that cannot be read, a name without prompts or too long, or too many objects.
    """
    groups: dict[str, list[Prompt]] = {}
    name = "1"
    for kind, text in words:
        if kind == "object":
            name = " ".join(text.split())
            if not name or len(name) > _MAX_NAME or not name.isprintable():
                raise ValueError(f"object: expected a name of 1 to {_MAX_NAME} characters, got {text[:99]!r}")
            groups.setdefault(name, [])
        else:
            groups.setdefault(name, []).append(PARSERS[kind](text))
    if len(groups) > MAX_OBJECTS:
        raise ValueError(f"object: expected at most {MAX_OBJECTS} objects, got {len(groups)}")
    return [ObjectPrompts(number, tuple(items), key) for number, (key, items) in enumerate(groups.items(), start=1)]
