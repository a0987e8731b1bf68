"""Meshes from a few numbers: (vertices (V, 3) float64, faces (F, 3) int64), faces counter-clockwise from outside."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from diffvas.world.spec import Mesh

SHORTEST = {
    "lathe": 4,
    "outline": 7,
    "polygon": 7,
    "plate": 13,
    "loft": 11,
    "superquadric": 5,
    "blob": 5,
    "torus": 2,
}
MESH_KINDS = tuple(SHORTEST)


@lru_cache(maxsize=1024)  # sampling, physics and rendering ask for the same meshes
def build_mesh(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of a mesh recipe, read-only.

    Recipes (numbers, in metres unless said otherwise):
        lathe: r0, z0, r1, z1, ...: a profile turned around the z axis, from bottom to top.
        outline: half thickness, x0, z0, x1, z1, ...: a polygon, star-shaped around its mean, extruded along y.
        polygon: half thickness, x0, z0, x1, z1, ...: any simple polygon, extruded along y.
        plate: half thickness, then outer x, outer z, inner x, inner z per corner: a polygon with a hole, along y.
        loft: roundness of the ends in [0, 1], then x, y, z, half width, half depth per section: an elliptic skin along
            a bent spine (limbs, trunks, tubes, handles); the width lies across the plane in which the spine bends.
        superquadric: half axes a, b, c and the two exponents (1, 1 is an ellipsoid, small is a box, 2 an octahedron).
        blob: half axes a, b, c, bumpiness in [0, 1], noise seed.
        torus: ring radius, tube radius, in the x-z plane.

    Raises:
        ValueError: an unknown kind, or numbers that do not make a mesh.
    """
    if mesh.kind not in MESH_KINDS:
        raise ValueError(f"mesh.kind: expected one of {MESH_KINDS}, got {mesh.kind!r}")
    numbers = np.asarray(mesh.numbers, dtype=np.float64)
    shortest = SHORTEST[mesh.kind]
    if len(numbers) < shortest or not np.isfinite(numbers).all():
        raise ValueError(
            f"mesh.numbers: expected {shortest} or more finite numbers for {mesh.kind!r}, got {mesh.numbers}"
        )
    builders = {
        "lathe": _lathe,
        "outline": _outline,
        "polygon": _polygon,
        "plate": _plate,
        "loft": _loft,
        "superquadric": _superquadric,
        "blob": _blob,
        "torus": _torus,
    }
    vertices, faces = builders[mesh.kind](numbers)
    vertices.flags.writeable = faces.flags.writeable = False
    return vertices, faces


@lru_cache(maxsize=64)
def _grid_faces(rows: int, columns: int, wrap_rows: bool = False) -> np.ndarray:
    """Two triangles per cell of a grid whose columns wrap around."""
    last = rows if wrap_rows else rows - 1
    row, column = np.meshgrid(np.arange(last), np.arange(columns), indexing="ij")
    a = row * columns + column
    b = row * columns + (column + 1) % columns
    c = (row + 1) % rows * columns + column
    d = (row + 1) % rows * columns + (column + 1) % columns
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def _capped(rings: np.ndarray, bottom: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close a stack of rings (R, C, 3), listed from bottom to top and turning counter-clockwise, with two fans."""
    rows, columns, _ = rings.shape
    low, high = rows * columns, rows * columns + 1
    ring = np.arange(columns)
    following = (ring + 1) % columns
    fans = [np.stack([np.full(columns, low), following, ring], -1)]
    fans.append(np.stack([np.full(columns, high), ring + (rows - 1) * columns, following + (rows - 1) * columns], -1))
    vertices = np.concatenate([rings.reshape(-1, 3), bottom[None], top[None]])
    return vertices, np.concatenate([_grid_faces(rows, columns), *fans])


def _lathe(numbers: np.ndarray, columns: int = 20) -> tuple[np.ndarray, np.ndarray]:
    profile = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    radius, height = np.maximum(profile[:, :1], 1e-4), profile[:, 1:]
    rings = np.stack([radius * np.cos(turn), radius * np.sin(turn), height + 0 * turn], -1)
    return _capped(rings, np.array([0, 0, height[0, 0]]), np.array([0, 0, height[-1, 0]]))


def _outline(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half, points = numbers[0], numbers[1:][: len(numbers[1:]) // 2 * 2].reshape(-1, 2)
    x, z = points[:, 0], points[:, 1]
    if np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z) < 0:  # make the order counter-clockwise seen from -y
        x, z = x[::-1], z[::-1]
    # Rings go from +y ("bottom") to -y ("top"): seen from -y, x right and z up turn counter-clockwise.
    rings = np.stack([np.stack([x, 0 * x + side, z], -1) for side in (half, -half)])
    middle = np.array([x.mean(), 0.0, z.mean()])
    return _capped(rings, np.add(middle, [0, half, 0]), np.subtract(middle, [0, half, 0]))


def _polygon(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half, points = numbers[0], numbers[1:][: len(numbers[1:]) // 2 * 2].reshape(-1, 2)
    x, z = points[:, 0], points[:, 1]
    if np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z) < 0:
        points = points[::-1]
    count = len(points)
    front = np.array(_ears(points))
    vertices = np.concatenate([np.insert(points, 1, side, axis=1) for side in (half, -half)])  # back (+y), front (-y)
    a = np.arange(count)
    b = (a + 1) % count
    sides = np.concatenate([np.stack([a, b, b + count], -1), np.stack([a, b + count, a + count], -1)])
    return vertices, np.concatenate([front + count, front[:, ::-1], sides])


def _ears(points: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangles (indices) of a simple counter-clockwise polygon (N, 2), by cutting off ears."""
    left = list(range(len(points)))
    triangles: list[tuple[int, int, int]] = []
    while len(left) > 3:
        ring = points[left]
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        turns = _cross(ring - before, after - ring)
        best = -1
        for k in np.argsort(-turns):  # the sharpest corner that holds no other point
            if turns[k] <= 0:
                break
            a, b, c = before[k], ring[k], after[k]
            inside = (_cross(b - a, ring - a) > 0) & (_cross(c - b, ring - b) > 0) & (_cross(a - c, ring - c) > 0)
            if not inside.any():
                best = int(k)
                break
        best = best if best >= 0 else int(np.argmax(turns))  # a polygon that crosses itself still gets closed
        triangles.append((left[best - 1], left[best], left[(best + 1) % len(left)]))
        del left[best]
    return [*triangles, (left[0], left[1], left[2])]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _plate(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half, corners = numbers[0], numbers[1:][: len(numbers[1:]) // 4 * 4].reshape(-1, 4)
    if np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - np.roll(corners[:, 0], -1) * corners[:, 1]) < 0:
        corners = corners[::-1]  # clockwise seen from -y, so that the faces look outwards
    outer, inner = corners[:, :2], corners[:, 2:]
    edges = ((outer, -half), (outer, half), (inner, half), (inner, -half))
    walls = [np.insert(line, 1, side, axis=1) for line, side in edges]
    return np.stack(walls, 1).reshape(-1, 3), _grid_faces(len(corners), 4, wrap_rows=True)


def _loft(numbers: np.ndarray, columns: int = 12) -> tuple[np.ndarray, np.ndarray]:
    sections = numbers[1:][: len(numbers[1:]) // 5 * 5].reshape(-1, 5)
    sections = _rounded(sections, numbers[0])
    spine = sections[:, :3]
    padded = np.concatenate([spine[:1], spine, spine[-1:]])
    along = padded[2:] - padded[:-2]
    along /= np.maximum(np.sqrt((along * along).sum(1, keepdims=True)), 1e-9)
    side = np.array([0.0, 1.0, 0.0]) if abs(along[0, 1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    sides = []
    for forward in along:
        side = side - (side @ forward) * forward  # carried along the spine, so that the skin does not twist
        side = side / np.sqrt(side @ side)
        sides.append(side)
    across = np.stack(sides)
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)[:, None]
    wide, deep = sections[:, None, 3:4], sections[:, None, 4:5]
    rings = wide * np.cos(turn) * across[:, None] + deep * np.sin(turn) * np.cross(along, across)[:, None]
    rings += spine[:, None]
    return _capped(rings, spine[0], spine[-1])


def _rounded(sections: np.ndarray, roundness: float) -> np.ndarray:
    """Sections with shrinking ones added at both ends: a cap as deep as ``roundness`` times the end's radius."""
    sections = np.concatenate([sections[:, :3], np.maximum(sections[:, 3:], 1e-4)], axis=1)
    if roundness <= 0:
        return sections
    ends = []
    for end, inner in ((sections[0], sections[1]), (sections[-1], sections[-2])):
        out = end[:3] - inner[:3]
        out = out / max(float(np.linalg.norm(out)), 1e-9) * roundness * float(end[3:].min())
        ends.append(
            [np.concatenate([end[:3] + out * np.sin(t), end[3:] * np.cos(t)]) for t in (0.25 * np.pi, 0.45 * np.pi)]
        )
    return np.stack([*ends[0][::-1], *sections, *ends[1]])


def _sphere_rings(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows + 2)[1:-1, None]
    return latitude, np.linspace(-np.pi, np.pi, columns, endpoint=False)[None]


def _superquadric(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, e1, e2 = numbers[:5]

    def power(value: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** exponent

    latitude, longitude = _sphere_rings(11, 20)
    x = a * power(np.cos(latitude), e1) * power(np.cos(longitude), e2)
    y = b * power(np.cos(latitude), e1) * power(np.sin(longitude), e2)
    z = c * power(np.sin(latitude), e1) + 0 * longitude
    return _capped(np.stack([x, y, z], -1), np.array([0, 0, -c]), np.array([0, 0, c]))


def _blob(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes, bumps = numbers[:3], numbers[3]
    rng = np.random.default_rng(int(numbers[4]))
    latitude, longitude = _sphere_rings(11, 20)
    unit = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude) + 0 * longitude],
        -1,
    )

    def radius(direction: np.ndarray) -> np.ndarray:
        return 1 + bumps * np.tanh(sum(w * np.sin(direction @ f + p) for w, f, p in waves))

    waves = [(rng.uniform(0.2, 0.6), rng.normal(size=3) * 2.5, rng.uniform(0, 6.3)) for _ in range(5)]
    poles = np.array([[0, 0, -1.0], [0, 0, 1.0]])
    pole_radius = radius(poles)
    return _capped(
        unit * radius(unit)[..., None] * axes, poles[0] * pole_radius[0] * axes, poles[1] * pole_radius[1] * axes
    )


def _torus(numbers: np.ndarray, rows: int = 24, columns: int = 8) -> tuple[np.ndarray, np.ndarray]:
    ring, tube = numbers[:2]
    around = np.linspace(0, 2 * np.pi, rows, endpoint=False)[:, None]
    across = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    reach = ring + tube * np.cos(across)
    vertices = np.stack([reach * np.cos(around), tube * np.sin(across) + 0 * around, reach * np.sin(around)], -1)
    return vertices.reshape(-1, 3), _grid_faces(rows, columns, wrap_rows=True)
