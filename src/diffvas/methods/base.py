"""What a method is: a clip and an object's visible masks go in, amodal masks come out; some have to be fitted first.

The protocol is wide enough for everything in the field's tables: what a method reads beside the visible masks (RGB,
depth, the other objects, optical flow, the camera) is declared in ``needs`` and ``uses``: a data set is read for no
more than that, and what is missing is said.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffvas.types import F32, U8, Bool

if TYPE_CHECKING:
    from diffvas.methods.fit import Examples

Progress = Callable[[str, int, int], None]
Options = TypeVar("Options")
AnyMethod = TypeVar("AnyMethod", bound="Method")
AnyRule = TypeVar("AnyRule", bound="Rule")
HEAD = "method.json"
FORMAT, VERSION = "diffvas-method", 1


@dataclass(frozen=True, eq=False)
class ObjectInput:
    """One object of one clip as a method may see it; parts that nobody asked for, or that there are none of, are None.

    Attributes:
        name: the clip's id; all randomness derives from it and a seed, see :meth:`seed`.
        modal: (T, H, W) bool, where the object is visible.
        depth: (T, H, W) float32 in [0, 1], 1 = near, normalised over the clip.
        frames_u8: (T, H, W, 3) uint8 RGB.
        others: (T, H, W) uint8 or uint16, ids of the other objects where they are visible, 0 = none of them.
        flow: (T - 1, H, W, 2) float32, pixels right and down to the next frame, NaN = unknown.
        intrinsics: (T, 3, 3) float64, the camera matrix K in pixels.

    Raises:
        ValueError: an array whose axes are not those of ``modal``.
    """

    name: str
    modal: Bool
    depth: F32 | None = None
    frames_u8: U8 | None = None
    others: NDArray[Any] | None = None
    flow: F32 | None = None
    intrinsics: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.modal.dtype != np.bool_ or self.modal.ndim != 3 or 0 in self.modal.shape:
            raise ValueError(f"modal: expected (T, H, W) bool, got {self.modal.dtype} {self.modal.shape}")
        time, *size = self.modal.shape
        shapes = {
            "depth": (time, *size),
            "frames_u8": (time, *size, 3),
            "others": (time, *size),
            "flow": (time - 1, *size, 2),
            "intrinsics": (time, 3, 3),
        }
        for part, shape in shapes.items():
            value = getattr(self, part)
            if value is not None and value.shape != shape:
                raise ValueError(f"{part}: expected shape {shape} for '{self.name}', got {value.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return int(self.modal.shape[1]), int(self.modal.shape[2])

    def seed(self, seed: int) -> int:
        """The seed of this clip in a run with ``seed``, below 2^31: no order of clips changes a result."""
        return int(np.random.SeedSequence([seed, zlib.crc32(self.name.encode())]).generate_state(1)[0] >> 1)


PARTS = tuple(field.name for field in fields(ObjectInput) if field.name not in ("name", "modal"))


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of one object, at the clip's own size. The visible masks are not added: protocols do that.

    Attributes:
        masks: (T, H, W) bool. probability: (T, H, W) float32 in [0, 1], or None. samples: (K, T, H, W) bool where the
            method draws several answers, or None; probabilities then derive from them.
    """

    masks: Bool
    probability: F32 | None = None
    samples: Bool | None = None

    @classmethod
    def nothing(cls, clip: ObjectInput) -> Answer:
        """Empty masks: all that can be said of an object that is never seen."""
        return cls(np.zeros(clip.modal.shape, bool))


@dataclass(frozen=True)
class Budget:
    """How long to fit: optimiser ``steps``, or about so many ``seconds`` on this machine (turned into steps by timing a
    few; which is recorded), with ``batch`` examples each.

    Raises:
        ValueError: both or none of the two, or numbers below 1.
    """

    steps: int = 0
    seconds: float = 0.0
    batch: int = 4

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.seconds > 0) or self.steps < 0 or self.seconds < 0:
            raise ValueError(
                f"budget: expected steps or seconds above 0, one of the two, got {self.steps}, {self.seconds:g}"
            )
        if self.batch < 1:
            raise ValueError(f"batch: expected 1 or more, got {self.batch}")


class Method(Protocol):
    """A method; see the package's modules for examples.

    Attributes:
        name: in the registry. kind: the class of its options, a frozen dataclass with defaults for all.
        needs: parts of ``ObjectInput`` that it cannot do without. uses: parts that it reads where there are any,
            ``needs`` among them. trainable: whether there is anything to fit.
        device: where it runs, "cpu" or "cuda".
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    uses: ClassVar[frozenset[str]]
    trainable: ClassVar[bool]
    kind: ClassVar[type[Any]]
    device: str

    def fit(
        self, examples: Examples, *, seed: int, budget: Budget, out: Path, progress: Progress | None = None
    ) -> None:
        """Fit and ``save`` to ``out``; the same call goes on where an interrupted one stopped, and after a finished one
        only loads.

        Args:
            examples: numbered, see ``methods.fit.Examples``; the n-th step sees ``batch`` of them from n * batch on, so
                that equal budgets are equal data. seed: of weights and noise.
            out: a folder for this fit alone, also for what it needs to go on. progress: (stage, done, total).

        Raises:
            ValueError: ``out`` holds another fit.
        """

    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """Amodal masks of one object.

        Args:
            clip: with all that ``needs`` names. seed: see ``ObjectInput.seed``.
            samples: answers to draw where the method can draw; None = its own number. threshold: where soft masks are
                cut; None = the method's own.
        """

    def save(self, folder: Path) -> None:
        """Write to ``folder`` what ``load`` needs: JSON and safetensors."""

    @classmethod
    def load(cls: type[AnyMethod], folder: str | Path, device: str = "auto") -> AnyMethod:
        """The method as it was saved.

        Raises:
            ValueError: the folder holds none, or one of another method.
        """

    def settings(self) -> dict[str, Any]:
        """What its predictions depend on, as JSON: options, what it was fitted on, a digest of its weights."""


def check_parts(method: type[Method] | Method, clip: ObjectInput) -> None:
    """Raise ValueError where the clip lacks what the method needs."""
    missing = sorted(part for part in method.needs if getattr(clip, part) is None)
    if missing:
        raise ValueError(f"clip: expected {', '.join(missing)} for {method.name}, got '{clip.name}' without")


# ---------------------------------------------------------------------------------------------------------------------
# on disk


def write_head(folder: Path, name: str, options: Any, fitted: Mapping[str, Any] | None = None) -> None:
    """``method.json``, written last and renamed when whole: a folder with it is a finished one."""
    record: dict[str, Any] = {"format": FORMAT, "version": VERSION, "method": name}
    record["options"] = asdict(options) if is_dataclass(options) and not isinstance(options, type) else dict(options)
    record["fitted"] = dict(fitted or {})
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{HEAD}.{os.getpid()}.tmp"
    beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, folder / HEAD)


def read_head(folder: str | Path, name: str) -> dict[str, Any]:
    """``method.json`` of a folder.

    Raises:
        ValueError: there is none, or one of another method or version.
    """
    path = Path(folder) / HEAD
    if not path.is_file():
        raise ValueError(f"folder: expected a fitted {name} with {HEAD}, looked for '{path}', found no such file")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["format"], record["version"], record["method"]
        if not (isinstance(record["options"], dict) and isinstance(record["fitted"], dict)):
            raise TypeError("options and fitted")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"folder: expected a method in '{path}', got something else ({error})") from error
    if found != (FORMAT, VERSION, name):
        raise ValueError(f"folder: expected {FORMAT} {VERSION} of {name} in '{path}', got {' '.join(map(str, found))}")
    return dict(record)


def digest_weights(folder: str | Path) -> str:
    """16 hex digits of all safetensors files of a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def as_options(kind: type[Options], values: Mapping[str, Any], name: str = "options") -> Options:
    """A method's options from JSON or the command line: lists become tuples, text becomes the default's type.

    Raises:
        ValueError: an unknown option, or a value of another type.
    """
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"{name}: expected one of {', '.join(defaults) or 'none'}, got '{key}'")
        out[key] = _like(defaults[key], value, f"{name}: {key}")
    return kind(**out)


def _like(default: Any, value: Any, where: str) -> Any:
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(_like(default[0], part, where) for part in parts)
    try:
        return type(default)(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected a value like {default!r}, got {value!r}") from error


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


class Rule:
    """A method with nothing to fit: its options are all there is to save."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    uses: ClassVar[frozenset[str]] = frozenset()
    trainable: ClassVar[bool] = False
    kind: ClassVar[type[Any]] = NoOptions
    device = "cpu"

    def __init__(self, options: Any = None) -> None:
        self.options = self.kind() if options is None else options

    def fit(
        self, examples: Examples, *, seed: int, budget: Budget, out: Path, progress: Progress | None = None
    ) -> None:
        """Nothing to do but to save."""
        self.save(out)

    def save(self, folder: Path) -> None:
        """``method.json``"""
        write_head(folder, self.name, self.options)

    @classmethod
    def load(cls: type[AnyRule], folder: str | Path, device: str = "auto") -> AnyRule:
        """See ``Method``; runs on the CPU, whatever ``device``."""
        return cls(as_options(cls.kind, read_head(folder, cls.name)["options"]))

    def settings(self) -> dict[str, Any]:
        """Its options."""
        return {"method": self.name, **asdict(self.options)}
