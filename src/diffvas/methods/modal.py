"""Modal: the visible mask, completed by nothing. Every table's first row."""

from __future__ import annotations

from diffvas.methods.base import Answer, ObjectInput, Rule


class Modal(Rule):
    """The visible masks as they are."""

    name = "modal"

    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """The visible masks; see ``Method``."""
        return Answer(clip.modal)
