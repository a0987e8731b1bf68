"""Synthetic video with exact amodal truth: a flat world without GL, and 3-D scenes in MuJoCo."""

from diffvas.world.clip import SceneClip
from diffvas.world.shards import BrokenShardError, SceneSet, open_dataset
from diffvas.world.storage import read_scene_clip

__all__ = ["BrokenShardError", "SceneClip", "SceneSet", "open_dataset", "read_scene_clip"]
