"""The data sets that can be opened, by the names of their layouts, and finding out which one stands in a folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from diffvas.data import folders, movi, sailvos, tabe51, tao_amodal, world, ytvis
from diffvas.data.base import ObjectClips


@dataclass(frozen=True)
class DataSet:
    """One layout.

    Attributes:
        title: of the data set. looks_for: what makes the layout known.
        found: whether this layout stands at a path. open: opens it; what it takes beside the path is in its docstring.
    """

    title: str
    looks_for: str
    found: Callable[[Path], Any]
    open: Callable[..., ObjectClips]

    @property
    def options(self) -> tuple[str, ...]:
        """What ``open`` takes beside the path."""
        return tuple(inspect.signature(self.open).parameters)[1:]


# In the order in which they are tried: the more particular first.
DATASETS: dict[str, DataSet] = {
    "world": DataSet(
        "rendered scenes, their splits, the mini benchmark",
        "shards (.tar) or .npz clips, or folders train, val, test, test-heldout-shapes with some",
        world.find_scenes,
        world.open_world,
    ),
    "sailvos": DataSet(
        "SAIL-VOS, sequences of the Diffusion-VAS release",
        "a JSON list with segmentation and visible_mask",
        sailvos.find_json,
        sailvos.open_json,
    ),
    "sailvos-folders": DataSet(
        "SAIL-VOS, original folders",
        "VIDEO/images and VIDEO/visible",
        sailvos.video_folders,
        sailvos.open_folders,
    ),
    "tao-amodal": DataSet(
        "TAO-Amodal, sequences of the Diffusion-VAS release",
        "a JSON list with rles and amodal_bboxes",
        tao_amodal.find_json,
        tao_amodal.open_json,
    ),
    "tao-amodal-folders": DataSet(
        "TAO-Amodal, original annotations with BURST's masks",
        "amodal_annotations/SPLIT.json and BURST_annotations/SPLIT",
        tao_amodal.find_splits,
        tao_amodal.open_originals,
    ),
    "movi": DataSet(
        "MOVi-B and MOVi-D, EoRaS's build",
        "instance_list.npy, or train/ or test/ with one",
        movi.find_eoras,
        movi.open_eoras,
    ),
    "movid-amodal": DataSet(
        "MOViD-Amodal, C2F-Seg's build",
        "train_instance.txt or test_instance.txt",
        movi.find_c2f,
        movi.open_c2f,
    ),
    "tabe51": DataSet(
        "TABE-51",
        "VIDEO/frames and VIDEO/visible_masks, also below data/",
        tabe51.find_videos,
        tabe51.open_tabe51,
    ),
    "ytvis": DataSet(
        "YouTube-VIS annotations",
        "a JSON with videos and annotations, or modal.json (and amodal.json) in a folder",
        ytvis.find_json,
        ytvis.open_ytvis,
    ),
    "folders": DataSet(
        "plain folders, also in DAVIS's layout",
        "CLIP/frames and CLIP/modal (and CLIP/amodal), or JPEGImages and Annotations",
        folders.find_clips,
        folders.open_folders,
    ),
}


def find_kind(path: str | Path) -> str:
    """The name of the layout that stands at ``path``.

    Raises:
        FileNotFoundError: no such path.
        ValueError: an unknown layout; says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: expected a data set, found no '{path}'")
    for kind, dataset in DATASETS.items():
        if dataset.found(path):
            return kind
    looked = "; ".join(f"{dataset.looks_for} ({kind})" for kind, dataset in DATASETS.items())
    raise ValueError(f"path: expected a known layout in '{path}', got {_listing(path)}. Looked for: {looked}")


def open_objects(path: str | Path, kind: str | None = None, *, tolerant: bool = False, **options: Any) -> ObjectClips:
    """The objects of a data set, each read when it is asked for.

    Args:
        path: a folder or an annotation file.
        kind: the layout, one of ``DATASETS``; None = find out.
        tolerant: list what is wrong in ``problems`` instead of raising; what is broken is then left out.
        **options: what the layout's ``open`` takes, for example ``images``, ``split``, ``crop``.

    Raises:
        FileNotFoundError: no such path.
        ValueError: an unknown layout, kind or option; broken files.
    """
    if kind is None:
        kind = find_kind(path)
    if kind not in DATASETS:
        raise ValueError(f"kind: expected one of {', '.join(DATASETS)}, got '{kind}'{_hint(kind, DATASETS)}")
    if not Path(path).exists():
        raise FileNotFoundError(f"path: expected a data set, found no '{path}'")
    allowed = DATASETS[kind].options
    for name in options:
        if name not in allowed:
            takes = ", ".join(allowed) or "no options"
            raise ValueError(f"{name}: expected one of the options of {kind} ({takes}), got '{name}'"
                             f"{_hint(name, allowed)}")  # fmt: skip
    clips = DATASETS[kind].open(path, **options)
    return clips if tolerant else clips.raise_problems()


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _listing(path: Path) -> str:
    if path.is_file():
        return f"the file '{path.name}'"
    names = sorted(p.name for p in path.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"a folder with {', '.join(names[:5]) or 'nothing'}{more}"
