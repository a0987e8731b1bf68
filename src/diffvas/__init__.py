"""diffvas: whole objects in video, where the camera saw only parts of them.

Video amodal segmentation and content completion after Diffusion-VAS (CVPR 2025). The public names are loaded when
they are first used, so that ``import diffvas`` and ``diffvas --help`` do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffvas.masks import read_masks
    from diffvas.pipelines.completion import complete
    from diffvas.pipelines.job import JobOptions, complete_video
    from diffvas.pipelines.loading import load_pipelines
    from diffvas.types import Clip, Completion, ObjectCompletion, ObjectTrack
    from diffvas.video import read_clip, read_depth

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Completion",
    "JobOptions",
    "ObjectCompletion",
    "ObjectTrack",
    "__version__",
    "complete",
    "complete_video",
    "load_pipelines",
    "read_clip",
    "read_depth",
    "read_masks",
]

_HOME_OF = {
    "Clip": "diffvas.types",
    "Completion": "diffvas.types",
    "JobOptions": "diffvas.pipelines.job",
    "ObjectCompletion": "diffvas.types",
    "ObjectTrack": "diffvas.types",
    "complete": "diffvas.pipelines.completion",
    "complete_video": "diffvas.pipelines.job",
    "load_pipelines": "diffvas.pipelines.loading",
    "read_clip": "diffvas.video",
    "read_depth": "diffvas.video",
    "read_masks": "diffvas.masks",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'diffvas' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
