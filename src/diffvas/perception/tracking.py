"""From prompts to tracks: one protocol, three trackers, and which of them a name means.

``classic`` needs no weights (:mod:`.classic`), ``sam2`` follows points, boxes and masks (:mod:`.sam2`), ``sam3`` finds
what a text says (:mod:`.sam3`). Networks are transformers' own; frames are prepared here, with Pillow, so that results
do not depend on whether torchvision is installed. torch and transformers are imported when a network is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from diffvas.model_files import AbsentError, ModelFiles, quiet, reason
from diffvas.perception.frames import Frames
from diffvas.perception.prompts import ObjectPrompts, check_prompts
from diffvas.types import Bool, ObjectTrack

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]


class Tracker(Protocol):
    """Turns prompts into tracks.

    Attributes:
        description: which tracker, with the licence of its weights, for one line to the user.
    """

    description: str

    def track(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: Progress | None = None
    ) -> list[ObjectTrack]:
        """Track objects through a whole clip, before and after the frames where they are prompted.

        Args:
            clip: the frames. prompts: checked against the clip here. progress: called as ("track", done, total).

        Returns:
            Tracks with the objects' ids, in their order; no pixel belongs to two of them.

        Raises:
            ValueError: prompts outside the clip, of a kind that the tracker does not know, or with no object there.
        """
        ...

    def stream(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: Progress | None = None
    ) -> Iterator[Bool]:
        """The same masks frame by frame, (N, H, W) bool; a ValueError may come with the first, or after the last."""
        ...


@dataclass(frozen=True)
class TrackerInfo:
    """A published model: its id on the hub, the licence of its weights, and its ``model_type``."""

    id: str
    licence: str
    kind: str = "sam2_video"


TRACKERS: dict[str, TrackerInfo] = {
    "sam2": TrackerInfo("facebook/sam2.1-hiera-small", "Apache-2.0"),
    "sam2-tiny": TrackerInfo("facebook/sam2.1-hiera-tiny", "Apache-2.0"),
    "sam2-base": TrackerInfo("facebook/sam2.1-hiera-base-plus", "Apache-2.0"),
    "sam2-large": TrackerInfo("facebook/sam2.1-hiera-large", "Apache-2.0"),
    "sam3": TrackerInfo("facebook/sam3", "SAM License, by Meta; to be accepted on its page", "sam3_video"),
}

_FILES = ModelFiles(
    what="tracker",
    known=TRACKERS,
    others=("auto", "classic"),
    a_path="a folder with a model",
    instead="use --tracker classic, or give masks by --masks",
    extras=("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
)


# ---------------------------------------------------------------------------------------------------------------------
# the command line's words


def load_tracker(name: str = "auto", device: str | torch.device = "auto") -> tuple[Tracker, str]:
    """The tracker of a name.

    Args:
        name: ``auto`` (SAM 2 if it is cached or can be downloaded, otherwise classic), ``classic``, a name of
            :data:`TRACKERS`, a folder with a model of transformers (one with a ``config.json``), or a hub id.
        device: ``auto``, ``cpu``, ``cuda`` or a torch device.

    Returns:
        The tracker, and one line that says which it is and why.

    Raises:
        ValueError: nothing of all that, a model that is not to be had or broken (also under ``auto``, where a cached
            one is broken), or a device that is not there.
    """
    from diffvas.perception.classic import ClassicTracker

    if name == "classic":
        return ClassicTracker(), f"tracker: {ClassicTracker.description}"
    try:
        tracker = _load_network_tracker("sam2" if name == "auto" else name, device)
    except AbsentError as error:
        if name != "auto":
            raise
        return ClassicTracker(), f"tracker: {ClassicTracker.description} (auto: {error.reason})"
    auto = "auto: " if name == "auto" else ""
    return tracker, f"tracker: {auto}{tracker.description}"


def _load_network_tracker(name: str, device: str | torch.device) -> Tracker:
    folder, name, licence = _FILES.locate(name)
    words = f"{name} ({licence})"
    kind = _FILES.read_json(folder / "config.json").get("model_type")
    if kind == "sam2_video":
        from diffvas.perception.sam2 import Sam2Tracker

        return Sam2Tracker.load(folder, words, device)
    if kind == "sam3_video":
        from diffvas.perception.sam3 import Sam3Tracker

        return Sam3Tracker.load(folder, words, device)
    raise ValueError(f"tracker: expected a model of type sam2_video or sam3_video, got {kind!r} in '{folder}'")


def track_prompts(
    clip: Frames,
    prompts: Sequence[ObjectPrompts],
    tracker: str = "auto",
    *,
    text_tracker: str | None = None,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> tuple[list[ObjectTrack], list[str]]:
    """Track everything that is prompted; the one call that a program needs.

    Args:
        clip: the frames. prompts: objects shown on frames, texts, or both. tracker: what follows objects shown on
            frames, see :func:`load_tracker`. text_tracker: what finds texts; asked for only if there are any. None is
            ``tracker`` where all prompts are texts and it is not ``auto``, otherwise ``sam3``.
        device: for networks. progress: called as ("track", done, total), or ("find", ...) for texts.

    Returns:
        Tracks in ascending order of id, no pixel in two of them, and a line for each tracker used. Objects shown on
        frames keep their ids. A text may fit several objects: the one seen most keeps the id, the others get the next
        free ones. Where both kinds meet, a pixel belongs to what was shown.

    Raises:
        ValueError: prompts that do not fit the clip, no object there, a model that is not to be had, or a text with no
            text model.
    """
    check_prompts(prompts, clip)
    shown = [item for item in prompts if item.text is None]
    told = [item for item in prompts if item.text is not None]
    tracks: list[ObjectTrack] = []
    lines: list[str] = []
    if told:
        # before the rest, because it is what can be missing
        finder, line = _load_finder(told, text_tracker or ("sam3" if shown or tracker == "auto" else tracker), device)
        lines.append(line)
        tracks += finder.track(clip, told, None if progress is None else _renamed(progress, "find"))
    if shown:
        follower, line = load_tracker(tracker, device)
        lines.append(line)
        tracks = merge(follower.track(clip, shown, progress), tracks)
    return sorted(tracks, key=lambda track: track.object_id), lines


def stream_prompts(
    clip: Frames,
    prompts: Sequence[ObjectPrompts],
    tracker: str = "auto",
    *,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> tuple[list[int], Iterator[Bool], list[str]]:
    """As :func:`track_prompts`, for clips of any length.

    Returns:
        The objects' ids, ascending; their masks, (N, H, W) bool per frame in that order; and the lines. With texts all
        masks are in memory, as SAM 3 gives them; otherwise what :meth:`Tracker.stream` holds.
    """
    check_prompts(prompts, clip)
    if any(item.text is not None for item in prompts):
        tracks, lines = track_prompts(clip, prompts, tracker, device=device, progress=progress)
        frames = (np.stack([track.modal_masks[t] for track in tracks]) for t in range(clip.num_frames))
        return [track.object_id for track in tracks], frames, lines
    prompts = sorted(prompts, key=lambda item: item.object_id)
    follower, line = load_tracker(tracker, device)
    return [item.object_id for item in prompts], follower.stream(clip, prompts, progress), [line]


def _load_finder(told: Sequence[ObjectPrompts], name: str, device: str | torch.device) -> tuple[Tracker, str]:
    known = TRACKERS.get(name)
    wordless = name == "classic" or (known is not None and known.kind != "sam3_video")
    if not wordless:
        try:
            finder, line = load_tracker(name, device)
        except AbsentError as error:
            raise ValueError(f"text: a text prompt with no text model: {error.reason}") from error
        wordless = "sam3" not in type(finder).__module__
    if wordless:
        raise ValueError(f"text: a text prompt with no text model: {name!r} takes no words, got {told[0].text!r}")
    return finder, line


def _renamed(progress: Progress, stage: str) -> Progress:
    return lambda _, done, total: progress(stage, done, total)


def merge(first: Sequence[ObjectTrack], second: Sequence[ObjectTrack]) -> list[ObjectTrack]:
    """Tracks of two trackers as one list: ``first`` keeps its pixels and ids, ``second`` gives way.

    What of ``second`` is covered by ``first`` altogether is the same object and dropped.
    """
    taken = np.any([track.modal_masks for track in first], axis=0)
    used = {track.object_id for track in first}
    merged = list(first)
    for track in second:
        left = track.modal_masks & ~taken
        if not left.any():
            continue
        number = track.object_id
        if number in used:
            number = max(used | {other.object_id for other in second}) + 1
        used.add(number)
        merged.append(ObjectTrack(number, left))
    return merged


# ---------------------------------------------------------------------------------------------------------------------
# what networks share


def load_network(kind: str, folder: Path, place: torch.device) -> tuple[Any, torch.dtype]:
    """A network of transformers, by the name of its class, for inference; every weight from safetensors in the folder.

    bfloat16 on CUDA, which is what the published models were run in, float32 on the CPU.

    Raises:
        ValueError: files that cannot be read, or weights that do not fit their config.
    """
    import torch

    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    try:
        import transformers

        with quiet():
            model, report = getattr(transformers, kind).from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # what a broken file raises differs by library
        raise ValueError(f"tracker: the model in '{folder}' cannot be loaded ({reason(error)})") from error
    if missing := sorted(report["missing_keys"]):
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(
            f"tracker: expected the weights of its config in '{folder}', got {len(missing)} missing: {some}"
        )
    return model.requires_grad_(False).eval().to(place), dtype


class LazyFrames:
    """A clip's frames as a network wants them, each prepared when it is asked for: any length, the memory of one.

    It stands where transformers' sessions hold a dict from frame numbers to (3, S, S) tensors.
    """

    def __init__(
        self, clip: Frames, size: int, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
    ) -> None:
        self.clip, self.size, self.dtype = clip, size, dtype
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def __len__(self) -> int:
        return self.clip.num_frames

    def __getitem__(self, index: int) -> torch.Tensor:
        import torch

        frame = Image.fromarray(self.clip.frames_u8[index])
        sized = np.asarray(frame.resize((self.size, self.size), Image.Resampling.BILINEAR), np.float32)
        pixels = np.moveaxis((sized / 255 - self.mean) / self.std, -1, 0)
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)


def enlarge(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """(N, h, w) mask logits to (N, H, W) float32, bilinear."""
    import torch

    grown = torch.nn.functional.interpolate(logits.float()[:, None], size, mode="bilinear", align_corners=False)
    return np.asarray(grown[:, 0].cpu().numpy())


def exclusive(logits: np.ndarray) -> np.ndarray:
    """(N, H, W) logits to bool masks: above 0, and where several are, the highest alone."""
    winner = logits.argmax(0)
    return np.stack([(layer > 0) & (winner == k) for k, layer in enumerate(logits)])
