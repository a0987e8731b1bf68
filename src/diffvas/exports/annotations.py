"""What the annotation formats share: boxes, categories, deterministic zip files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.types import Bool


def mask_box(mask: Bool) -> list[int]:
    """[x, y, width, height] of a mask (H, W); all 0 where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def category_table(name: str) -> list[dict[str, Any]]:
    """COCO's list of categories, with the one that all objects have."""
    return [{"id": 1, "name": name, "supercategory": ""}]


def write_compact_json(path: Path, content: dict[str, Any]) -> None:
    """JSON in one line: RLEs are not for reading."""
    path.write_text(json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n", encoding="utf-8")


def zip_entry(name: str) -> zipfile.ZipInfo:
    """A compressed entry without the time of day, so that the same content gives the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
