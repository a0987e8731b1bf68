"""Synthetic video with exact amodal truth: a flat world without GL, and 3-D scenes in MuJoCo."""
