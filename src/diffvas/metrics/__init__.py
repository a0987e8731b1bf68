"""Scores against a known truth. Pure functions on numpy arrays and run-length masks; no model is imported here."""

from __future__ import annotations

from diffvas.metrics.box import BoxScore, box_iou, boxes_from_canvas
from diffvas.metrics.content import mean_colour_fill, psnr_inside, ssim_inside, temporal_psnr_inside
from diffvas.metrics.hull import convex_hull_mask, convex_hull_masks
from diffvas.metrics.intervals import paired_difference
from diffvas.metrics.mask import FrameScores, StrictScore, bootstrap_interval, iou, occluded_iou, strict_frames
from diffvas.metrics.probability import ProbabilityScore
from diffvas.metrics.protocols import PROTOCOLS, MaskScore, Protocol, get_protocol, score_frames
from diffvas.metrics.trackap import Track, track_ap
from diffvas.metrics.video import SteadyScore, steadiness, true_motion

__all__ = [
    "PROTOCOLS",
    "BoxScore",
    "FrameScores",
    "MaskScore",
    "ProbabilityScore",
    "Protocol",
    "SteadyScore",
    "StrictScore",
    "Track",
    "bootstrap_interval",
    "box_iou",
    "boxes_from_canvas",
    "convex_hull_mask",
    "convex_hull_masks",
    "get_protocol",
    "iou",
    "mean_colour_fill",
    "occluded_iou",
    "paired_difference",
    "psnr_inside",
    "score_frames",
    "ssim_inside",
    "steadiness",
    "strict_frames",
    "temporal_psnr_inside",
    "track_ap",
    "true_motion",
]
