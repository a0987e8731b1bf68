"""What holds for the repository as a whole: sizes, import layers, declared dependencies, and a README that is true."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffvas

if sys.version_info >= (3, 11):
    import tomllib
else:  # pip brings it along on 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "diffvas"
PYTHON_FILES = sorted(path for top in ("src", "tests", "examples") for path in (ROOT / top).rglob("*.py"))
TEXT_SUFFIXES = {"", ".cfg", ".html", ".ini", ".json", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}
SKIPPED_FOLDERS = {".git", ".venv", "outputs", "runs", "data", "build", "dist"}
WEIGHTS_LIMIT = 60_000_000

# Where the name that is imported is not the name that is installed.
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "OpenGL": "pyopengl",
    "scenedetect": "scenedetect-headless",
}


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _text_files() -> list[Path]:
    """Text files of the repository; caches and everything that git ignores at the top are left out."""
    found = []
    for folder, names, files in os.walk(ROOT):
        skipped = SKIPPED_FOLDERS if Path(folder) == ROOT else set()
        names[:] = [name for name in names if name not in skipped and not name.endswith(("_cache", "__pycache__"))]
        found += [Path(folder, name) for name in files if Path(name).suffix in TEXT_SUFFIXES]
    return sorted(found)


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_files_stay_short() -> None:
    lengths = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert len(lengths) > 10
    assert {name: lines for name, lines in lengths.items() if lines >= 500} == {}


def test_functions_fit_a_screen() -> None:
    long = {}
    for path in PYTHON_FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > 80:
                    long[f"{_relative(path)}:{node.name}"] = lines
    assert long == {}


def test_no_paths_of_one_machine() -> None:
    # Put together from parts, so that this file does not find itself.
    homes = "|".join(f"/{name}/" for name in ("home", "root", "Users", "mnt", "scratch"))
    # Also the checkout itself and its parent, unless that is as general as "/" or "/tmp".
    here = [re.escape(f"{folder}/") for folder in (ROOT, ROOT.parent) if folder not in (Path("/"), Path("/tmp"))]
    pattern = re.compile(rf"(?<![\w.~/-])(?:{'|'.join([homes, *here])})|\b[A-Z]:\\\\?Users")
    found = []
    for path in _text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{_relative(path)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_weights_stay_small_and_are_safetensors() -> None:
    files = [path for path in (PACKAGE / "weights").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= WEIGHTS_LIMIT
    pickles = [_relative(path) for path in files if path.suffix in {".bin", ".ckpt", ".pkl", ".pt", ".pth"}]
    assert pickles == []


def test_every_bundled_model_has_a_card() -> None:
    models = {path.parent for path in (PACKAGE / "weights").rglob("*.safetensors")}
    assert models, "the package ships without any model"
    without = [
        _relative(folder)
        for folder in models
        if not any((above / "README.md").is_file() for above in (folder, *folder.parents) if PACKAGE in above.parents)
    ]
    assert without == []


def test_import_is_quick_and_light() -> None:
    """In a fresh interpreter `import diffvas` takes less than half a second and loads neither torch nor OpenCV."""
    code = (
        "import sys, time; start = time.perf_counter(); import diffvas; took = time.perf_counter() - start;"
        "print(took, [name for name in ('torch', 'diffusers', 'transformers', 'cv2') if name in sys.modules])"
    )
    times = []
    for _ in range(3):  # the best of three: a busy machine is not the package's fault
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        took, heavy = output.split(maxsplit=1)
        assert heavy.strip() == "[]"
        times.append(float(took))
    assert min(times) < 0.5


def test_public_names_exist() -> None:
    for name in diffvas.__all__:
        assert getattr(diffvas, name) is not None
    assert diffvas.__version__ == _project()["version"]


def test_metrics_import_no_model() -> None:
    code = "import sys, diffvas.metrics; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "False"]


def test_import_layers() -> None:
    pytest.importorskip("importlinter", reason="needs the `dev` extra (import-linter)")
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_imports_are_declared() -> None:
    project = _project()
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    declared = {re.split(r"[\[<>=!~ ;]", one)[0].lower() for one in wanted} | {"diffvas"}
    missing = set()
    for path in PYTHON_FILES:
        if PACKAGE not in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names):
                if DISTRIBUTION.get(top, top).lower().replace("_", "-") not in declared:
                    missing.add(f"{_relative(path)}: {top}")
    assert missing == set()


def test_dependencies_are_bounded() -> None:
    project = _project()
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    unbounded = [one for one in wanted if not one.startswith("diffvas[") and not (">=" in one and ",<" in one)]
    assert unbounded == []


def test_the_map_names_every_room_and_file() -> None:
    """The README names every room of the package, docs/map.md every file in it by its path."""
    readme, chart = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/map.md"))
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    assert [room.name for room in rooms if f"{room.name}/" not in readme] == []
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", chart, re.MULTILINE))
    assert sorted(files - listed) == [], "files that docs/map.md does not name"
    assert sorted(listed - files) == [], "files in docs/map.md that are gone"


def test_ci_is_executable_and_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
