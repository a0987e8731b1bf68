"""More 2-D shapes of the flat world: hands, fish, snakes, garments, tools, letters, leaves, creatures of chance."""

from __future__ import annotations

import numpy as np

from diffvas.world.outlines import Limb, Shape, blob, box, capsule, ellipse

Array = np.ndarray


def hand(rng: np.random.Generator) -> Shape:
    """A hand and forearm whose fingers bend and spread."""
    palm, wide = rng.uniform(0.14, 0.2), rng.uniform(0.12, 0.18)
    limbs = [
        Limb(-1, (0, palm), capsule(rng.uniform(0.3, 0.8), wide * 0.7, wide * 0.85)),
        Limb(-1, (0, 0), ellipse(wide, palm)),
    ]
    curl, rate, phase = rng.uniform(0, 0.5), rng.uniform(0.5, 3), rng.uniform(0, 6.3)
    for k in range(4):
        x = (k - 1.5) * wide * 0.55
        long = rng.uniform(0.1, 0.15) * (1.15 if k in (1, 2) else 0.9)
        lean = np.pi + (k - 1.5) * rng.uniform(0.02, 0.2)
        limbs.append(Limb(1, (x, -palm * 0.7), capsule(long, 0.035, 0.032), lean, curl * 0.5, rate, phase + 0.3 * k))
        limbs.append(
            Limb(len(limbs) - 1, (0, long), capsule(long * 0.8, 0.032, 0.026), rng.normal() * 0.1, curl, rate, phase)
        )
    limbs.append(
        Limb(1, (wide * 0.8, palm * 0.1), capsule(0.2, 0.045, 0.03), np.pi + rng.uniform(0.4, 1.2), 0.2, rate, phase)
    )
    return Shape(limbs)


def fish(rng: np.random.Generator) -> Shape:
    """A fish whose tail beats."""
    long, tall = 0.42, rng.uniform(0.08, 0.26)
    fork = np.array([[0, -0.03], [-0.2, -tall], [-rng.uniform(0.08, 0.2), 0], [-0.2, tall], [0, 0.03]])
    fin = np.array([[-0.15, 0], [0.12, 0], [-0.05, -rng.uniform(0.05, 0.18)], [-0.18, -rng.uniform(0.03, 0.15)]])
    rate = rng.uniform(1, 5)
    limbs = [
        Limb(-1, (-long * 0.9, 0), fork * rng.uniform(0.7, 1.3), 0.0, rng.uniform(0.1, 0.5), rate),
        Limb(-1, (0, -tall * 0.8), fin),
        Limb(-1, (0.05, tall * 0.7), fin * [1, -1] * rng.uniform(0.5, 1.0), 0.0, 0.3, rate),
        Limb(-1, (0, 0), ellipse(long, tall, 28) * [1, 1] + np.array([0.04, 0])),
    ]
    return Shape(limbs)


def snake(rng: np.random.Generator) -> Shape:
    """A chain that winds: snake, tail, rope, tentacle, or an arm of a plant."""
    count, thick = int(rng.integers(5, 10)), rng.uniform(0.02, 0.07)
    step, taper = 1.1 / count, rng.uniform(0.2, 1.0)
    swing, rate, lag, bend = rng.uniform(0.1, 0.5), rng.uniform(0.5, 3), rng.uniform(0.5, 1.3), rng.normal() * 0.15
    limbs = []
    for k in range(count):
        a, b = (thick * (1 - (1 - taper) * j / count) for j in (k, k + 1))
        where = (0.0, -0.5) if k == 0 else (0.0, step)
        limbs.append(
            Limb(k - 1, where, capsule(step, a, b), bend if k else rng.uniform(-1.5, 1.5), swing, rate, -lag * k)
        )
    if rng.random() < 0.5:
        limbs.append(Limb(0, (0, 0), ellipse(thick * 1.6, thick * 2.2)))
    return Shape(limbs)


def garment(rng: np.random.Generator) -> Shape:
    """A shirt, coat, dress or pair of trousers as it hangs or is worn."""
    wide, long = rng.uniform(0.18, 0.28), rng.uniform(0.35, 0.9)
    hem = wide * rng.uniform(0.8, 1.8)
    body = np.array(
        [[-wide, -0.4], [-wide * 0.4, -0.45], [wide * 0.4, -0.45], [wide, -0.4], [hem, long - 0.4], [-hem, long - 0.4]]
    )
    limbs = [Limb(-1, (0, 0), body)]
    for side in (1, -1):
        sleeve = capsule(rng.uniform(0.15, 0.5), wide * 0.4, wide * rng.uniform(0.25, 0.5))
        limbs.append(
            Limb(-1, (side * wide * 0.75, -0.35), sleeve, -side * rng.uniform(0.1, 1.2), rng.uniform(0, 0.4), 1, side)
        )
        if rng.random() < 0.3:
            leg = capsule(rng.uniform(0.2, 0.5), hem * 0.45, hem * 0.35)
            limbs.append(Limb(-1, (side * hem * 0.5, long - 0.45), leg, -side * 0.05, rng.uniform(0, 0.5), 2, side))
    return Shape(limbs)


def tool(rng: np.random.Generator) -> Shape:
    """A hammer, key, spoon, scissors, umbrella or racket."""
    kind, long = rng.integers(6), rng.uniform(0.6, 1.0)
    thin = rng.uniform(0.02, 0.05)
    limbs = [Limb(-1, (0, -long / 2), capsule(long, thin, thin * 1.3))]
    if kind == 0:
        limbs.append(Limb(-1, (0, -long / 2), box(-rng.uniform(0.1, 0.3), -0.08, rng.uniform(0.1, 0.25), 0.08)))
    elif kind == 1:
        limbs += [
            Limb(-1, (0, -long / 2), ellipse(0.15, 0.15)),
            Limb(-1, (0, -long / 2), ellipse(0.07, 0.07), hole=True),
        ]
        limbs += [Limb(-1, (0, y), box(0, 0, 0.14, 0.05)) for y in (long * 0.3, long * 0.42)]
    elif kind == 2:
        limbs.append(Limb(-1, (0, -long / 2), ellipse(rng.uniform(0.08, 0.15), rng.uniform(0.1, 0.2))))
    elif kind == 3:
        spread = rng.uniform(0.1, 0.5)
        limbs = []
        for s in (1, -1):
            limbs.append(Limb(-1, (0, 0), capsule(long * 0.55, 0.045, 0.008), np.pi + s * spread, spread * 0.8, 2, 0))
            limbs.append(Limb(-1, (0, 0), capsule(long * 0.3, 0.03, 0.03), s * spread))
            limbs.append(Limb(len(limbs) - 1, (0, long * 0.4), ellipse(0.11, 0.13)))
            limbs.append(Limb(len(limbs) - 2, (0, long * 0.4), ellipse(0.06, 0.08), hole=True))
    elif kind == 4:
        t = np.linspace(np.pi, 2 * np.pi, 13)
        dome = np.stack([0.45 * np.cos(t), 0.35 * np.sin(t)], 1)
        limbs.append(Limb(-1, (0, -long / 2 + 0.25), dome))
    else:
        wide = rng.uniform(0.15, 0.25)
        limbs += [
            Limb(-1, (0, -long / 2), ellipse(wide, wide * 1.3)),
            Limb(-1, (0, -long / 2), ellipse(wide * 0.85, wide * 1.15), hole=True),
        ]
        limbs += [
            Limb(-1, (x, -long / 2), box(-0.008, -wide, 0.008, wide)) for x in np.linspace(-wide, wide, 5)[1:-1] * 0.9
        ]
    return Shape(limbs)


def letter(rng: np.random.Generator) -> Shape:
    """Strokes and squares on a grid: letters, digits, signs, pieces of a puzzle."""
    cells = rng.random((int(rng.integers(2, 5)), int(rng.integers(2, 4)))) < 0.6
    cells[0, 0] = True
    high, wide = cells.shape
    size = 1 / high
    return Shape(
        [
            Limb(-1, ((x - wide / 2) * size, (y - high / 2) * size), box(0, 0, size * 1.02, size * 1.02))
            for y, x in np.argwhere(cells)
        ]
    )


def star(rng: np.random.Generator) -> Shape:
    """A star, sun, cog or splash."""
    count = 2 * int(rng.integers(4, 14))
    t = np.arange(count) * 2 * np.pi / count
    r = np.where(np.arange(count) % 2 == 0, 0.5, 0.5 * rng.uniform(0.35, 0.8)) * rng.uniform(0.85, 1.0, count)
    return Shape([Limb(-1, (0, 0), np.stack([r * np.cos(t), r * np.sin(t)], 1))])


def leaf(rng: np.random.Generator) -> Shape:
    """A potted plant, flower or branch whose leaves sway."""
    limbs = [Limb(-1, (0, 0.5), box(-0.12, -0.2, 0.12, 0.0))] if rng.random() < 0.5 else []
    bend = rng.uniform(0.3, 0.9)
    t = np.linspace(0, 1, 8)
    for k in range(int(rng.integers(3, 10))):
        long, wide = rng.uniform(0.3, 0.8), rng.uniform(0.03, 0.12)
        half = wide * np.sin(np.pi * t) ** rng.uniform(0.5, 1.2)
        blade = np.concatenate([np.stack([half, long * t], 1), np.stack([-half, long * t], 1)[::-1]])
        limbs.append(
            Limb(
                -1,
                (rng.normal() * 0.05, 0.35),
                blade,
                np.pi + rng.normal() * bend,
                rng.uniform(0.02, 0.2),
                rng.uniform(0.5, 2),
                k,
            )
        )
    return Shape(limbs)


def creature(rng: np.random.Generator) -> Shape:
    """A body with any number of jointed limbs and a head: animals that no list foresees."""
    body = blob(rng, rough=0.3) * rng.uniform(0.5, 0.9)
    rate, limbs = rng.uniform(1, 4), [Limb(-1, (0, 0), body)]
    reach = float(np.abs(body).max())
    for k in range(int(rng.integers(2, 8))):
        angle, at = rng.uniform(-2.2, 2.2), rng.uniform(-0.7, 0.7) * reach
        thick, swing = rng.uniform(0.02, 0.07), rng.uniform(0, 0.7)
        long = rng.uniform(0.12, 0.35)
        limbs.append(Limb(0, (at, 0.1 * reach), capsule(long, thick * 1.3, thick), angle, swing, rate, 2.1 * k))
        limbs.append(
            Limb(
                len(limbs) - 1,
                (0, long),
                capsule(long * rng.uniform(0.5, 1.1), thick, thick * 0.7),
                rng.normal() * 0.6,
                swing,
                rate,
                2.1 * k + 1,
            )
        )
    limbs.append(Limb(0, (reach * 0.8, -reach * 0.3), blob(rng, rough=0.3) * rng.uniform(0.2, 0.45), 0.0, 0.2, rate))
    return Shape(limbs)
