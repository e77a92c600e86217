"""What people wear: outfits as data, drawn so that all 19 parts of LIP occur often enough to be learnt.

A close garment is a :class:`Layer`: a region of the body's surface, given by thresholds on the surface coordinates of
``body.Coordinates``, pushed out by a thickness. A border is a threshold met within a triangle, so it is smooth, and
nothing can poke through. What hangs free of the body (skirts, coat tails, long hair, brims, scarves) is a
:class:`Hanging`, whose surface ``garments.py`` lofts.
"""

from dataclasses import dataclass, field

import numpy as np

from rendered_people.body import Coordinates, Shape
from rendered_people.colours import Cloth, hair_colour, sample_cloth, sample_clothing, skin_colour

FAR = 9.0  # beyond every coordinate


@dataclass(frozen=True)
class Layer:
    """A garment that follows the body. Bounds are (from, to) in the body's coordinates; see ``body.Coordinates``."""

    part: str  # LIP's part; "shoe" has a side added
    cloth: Cloth
    thickness: float  # metres
    loose: float = 0.0  # 0 follows each crease of the body, 1 bridges them
    arm: tuple[float, float] = (-FAR, -0.3)
    down: tuple[float, float] = (-FAR, FAR)
    neck: float = -FAR  # up to here on the neck; -FAR: not on the trunk's top at all
    v_neck: float = 0.0  # depth of the neckline's V in front
    gap: tuple[float, float] = (0.0, 0.0)  # half width of the opening in front, metres, at the neck and at the hip
    flare: float = 0.0  # additional thickness at the lower end, metres
    fastened: bool = False  # a line of buttons or a zip down the front: a closed coat is no jumper

    def paint(self, at: Coordinates) -> np.ndarray:
        """(N, 3) RGB of points that it covers."""
        colours = self.cloth.paint(at.rest)
        if self.fastened:
            line = (np.abs(at.rest[:, 0]) < 0.009) & (at.rest[:, 1] < 0) & (at.arm < -0.3)
            dark = np.mean(self.cloth.colour) > 0.35
            colours = np.where(line[:, None], np.float32(0.12 if dark else 0.75), colours)
        return colours

    def covers(self, at: Coordinates) -> np.ndarray:
        """(N,) bool: which points it covers."""
        x, y = at.rest[:, 0], at.rest[:, 1]
        inside = (at.arm > self.arm[0]) & (at.arm < self.arm[1]) & (at.down > self.down[0]) & (at.down < self.down[1])
        front = np.clip((0.02 - y) / 0.06, 0, 1)
        collar = self.neck - front * np.maximum(self.v_neck - np.abs(x) * 9, 0)
        inside &= at.neck < collar
        if self.gap != (0.0, 0.0):
            half = np.interp(at.down, [-1, 0], self.gap)
            inside &= ~((np.abs(x) < half) & (y < 0.0) & (at.arm < -0.2))
        return inside


@dataclass(frozen=True)
class HeadLayer:
    """Hair, hat or glasses on the head: where ``edge(coordinates) > 0``."""

    part: str
    cloth: Cloth
    thickness: float
    kind: str  # scalp, hat or glasses
    shift: float = 0.0  # how far the edge is moved inwards, metres
    loose: float = 0.0
    flare: float = 0.0
    eye: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def paint(self, at: Coordinates) -> np.ndarray:
        """(N, 3) RGB of points that it covers."""
        return self.cloth.paint(at.rest)

    def covers(self, at: Coordinates) -> np.ndarray:
        """(N,) bool: which points it covers."""
        x, y, z = np.abs(at.rest[:, 0]), at.rest[:, 1], at.rest[:, 2]
        if self.kind == "scalp":
            return at.hair > self.shift
        if self.kind == "hat":  # a plane, lower at the back
            return (z - self.eye[2] - 0.048 - self.shift + 0.25 * (y - self.eye[1]) > 0) & (at.neck > 0)
        lens = ((x - self.eye[0]) / 0.033) ** 2 + ((z - self.eye[2] + 0.003) / (0.024 + self.shift)) ** 2 < 1
        bar = (np.abs(z - self.eye[2] - 0.004) < 0.006) & (y < self.eye[1] + 0.105)
        return (lens & (y < self.eye[1] + 0.045)) | bar


@dataclass(frozen=True)
class Hanging:
    """A garment or tuft that hangs free: ``kind`` is skirt, curtain (long hair), tail, bun, cap, brim or scarf."""

    part: str
    cloth: Cloth
    kind: str
    top: float = 0.0
    hem: float = 0.0
    flare: float = 0.0
    opening: float = 0.0  # half angle of the opening in front, degrees
    thickness: float = 0.0


@dataclass
class Outfit:
    """All of it, the outermost layer first."""

    skin: np.ndarray  # (3,) RGB
    hair: np.ndarray
    beard: float = 0.0  # how dense
    layers: list[Layer | HeadLayer] = field(default_factory=list)
    hanging: list[Hanging] = field(default_factory=list)


def sample_outfit(rng: np.random.Generator, shape: Shape, eye: np.ndarray, *, widest_flare: float = 0.2) -> Outfit:
    """A random outfit for a person; ``eye`` is the left eye on the average body.

    A skirt's hem stands at most ``widest_flare`` metres off the legs: on a seated person it does not stand at all.
    """
    outfit = Outfit(skin=skin_colour(rng), hair=hair_colour(rng, old=shape.age > 1.5))
    woman = shape.female > 0.5
    if not woman and shape.age > 0.8 and rng.random() < 0.35:
        outfit.beard = rng.uniform(0.3, 1)
    _dress_hands(outfit, rng)
    _dress_body(outfit, rng, woman, widest_flare)
    _dress_head(outfit, rng, woman, tuple(eye))
    return outfit


def _dress_hands(outfit: Outfit, rng) -> None:
    if rng.random() < 0.09:
        cuff = rng.uniform(1.72, 1.97)
        wool = sample_clothing(rng, outfit.skin, patterns=0.2)
        outfit.layers.append(Layer("glove", wool, rng.uniform(0.004, 0.011), arm=(cuff, FAR), neck=FAR))


def _sleeve(rng, long: float) -> float:
    """How far down the arm: long, half or none."""
    draw = rng.random()
    if draw < long:
        return rng.uniform(1.75, 2.02)
    return rng.uniform(0.25, 0.85) if draw < long + 0.85 * (1 - long) else rng.uniform(-0.12, 0.12)


def _dress_body(outfit: Outfit, rng, woman: bool, widest_flare: float) -> None:
    shares = [0.64, 0.18, 0.12, 0.06] if woman else [0.9, 0.02, 0.02, 0.06]
    kind = rng.choice(["pants", "skirt", "dress", "jumpsuits"], p=shares)
    layers = outfit.layers
    boots = rng.random() < 0.2
    shoe = None
    if rng.random() < 0.9:
        top = rng.uniform(1.45, 1.8) if boots else rng.uniform(1.98, 2.4)
        leather = sample_cloth(rng, patterns=0.12)
        shoe = Layer("shoe", leather, rng.uniform(0.006, 0.014), 0.5, down=(top, FAR), neck=FAR)
    flare = float(rng.uniform(0.1, 1)) * widest_flare
    if rng.random() < 0.22 and kind != "jumpsuits":
        _coat(outfit, rng, flare if kind in ("skirt", "dress") else 0.0, widest_flare)
    if kind == "jumpsuits":
        cut = rng.choice([rng.uniform(0.2, 0.8), rng.uniform(1.7, 2.05)], p=[0.2, 0.8])
        cloth = sample_clothing(rng, outfit.skin)
        layers.append(Layer("jumpsuits", cloth, rng.uniform(0.010, 0.02), 0.8, arm=(-FAR, _sleeve(rng, 0.65)),
                            down=(-FAR, cut), neck=rng.uniform(-0.1, 0.3)))  # fmt: skip
    elif kind == "dress":
        cloth, hem = sample_clothing(rng, outfit.skin), rng.uniform(0.45, 1.6)
        layers.append(Layer("dress", cloth, rng.uniform(0.005, 0.012), 0.6, arm=(-FAR, _sleeve(rng, 0.3)),
                            down=(-FAR, hem - 0.12), neck=rng.uniform(-0.5, 0.1), v_neck=_neckline(rng)))  # fmt: skip
        outfit.hanging.append(Hanging("dress", cloth, "skirt", top=-0.3, hem=hem, flare=flare))
    else:
        cloth = sample_clothing(rng, outfit.skin)
        tucked = rng.random() < 0.35
        shirt = sample_clothing(rng, outfit.skin)
        upper = Layer("upper_clothes", shirt, rng.uniform(0.006, 0.02), rng.uniform(0.55, 1),
                      arm=(-FAR, _sleeve(rng, 0.42)), down=(-FAR, rng.uniform(-0.08, 0.22)),
                      neck=rng.uniform(-0.35, 0.35), v_neck=_neckline(rng))  # fmt: skip
        if kind == "skirt":
            hem = rng.uniform(0.35, 1.5)
            bottom = Layer("skirt", cloth, 0.006, 0.6, down=(-0.3, hem - 0.12), neck=FAR)
            outfit.hanging.append(Hanging("skirt", cloth, "skirt", top=-0.28, hem=hem, flare=flare))
            tucked = True
        else:
            low, high = ((0.3, 0.95), (1.1, 1.5), (1.8, 2.25))[rng.choice(3, p=[0.33, 0.1, 0.57])]
            cut = rng.uniform(low, high)
            cloth = cloth if rng.random() < 0.5 else sample_clothing(rng, outfit.skin, denim=True)
            bottom = Layer("pants", cloth, rng.uniform(0.003, 0.016), rng.uniform(0.2, 1), down=(-0.33, cut), neck=FAR,
                           flare=rng.uniform(0, 0.025))  # fmt: skip
        layers.extend([bottom, upper] if tucked else [upper, bottom])
    if shoe is not None:
        layers.insert(0, shoe) if boots else layers.append(shoe)
    if rng.random() < 0.45:
        top = rng.choice([rng.uniform(1.65, 1.95), rng.uniform(1.05, 1.4), rng.uniform(-0.2, 0.6)], p=[0.55, 0.3, 0.15])
        wool = sample_clothing(rng, outfit.skin, patterns=0.25)
        layers.append(Layer("socks", wool, 0.004, 0.2, down=(top, FAR), neck=FAR))


def _neckline(rng) -> float:
    return rng.uniform(0.3, 1.1) if rng.random() < 0.35 else 0.0


def _coat(outfit: Outfit, rng, over: float, widest_flare: float) -> None:
    """A jacket or coat; ``over`` is the flare of the skirt beneath, which a long one must not be narrower than."""
    cloth = sample_clothing(rng, outfit.skin, patterns=0.2)
    is_open = rng.random() < 0.7
    hem = rng.choice([rng.uniform(-0.05, 0.2), rng.uniform(0.35, 1.3)], p=[0.65, 0.35])
    gap = (rng.uniform(0.01, 0.05), rng.uniform(0.03, 0.12)) if is_open else (0.0, 0.0)
    outfit.layers.append(Layer("coat", cloth, rng.uniform(0.018, 0.032), 1.0, arm=(-FAR, rng.uniform(1.8, 2.08)),
                               down=(-FAR, min(hem, 0.3)), neck=rng.uniform(-0.1, 0.6),
                               v_neck=is_open * rng.uniform(0.4, 1.4), gap=gap, flare=0.01,
                               fastened=not is_open))  # fmt: skip
    if hem > 0.3:
        tail_flare = over + rng.uniform(0.15, 0.5) * widest_flare
        opening = rng.uniform(12, 40) if is_open else 0.0
        outfit.hanging.append(Hanging("coat", cloth, "skirt", -0.2, hem, tail_flare, opening, thickness=0.03))


def _dress_head(outfit: Outfit, rng, woman: bool, eye: tuple) -> None:
    tress = Cloth(tuple(outfit.hair), tuple(outfit.hair * 0.8), "strands", rng.uniform(0.006, 0.012))
    bald = not woman and rng.random() < 0.1
    long = rng.random() < (0.72 if woman else 0.08)
    front: list[Layer | HeadLayer] = []
    if rng.random() < 0.13:
        glass = Cloth(tuple(rng.uniform(0.02, 0.2, 3)), (0.3, 0.3, 0.35), "shine", 0.02)
        front.append(HeadLayer("sunglasses", glass, 0.012, "glasses", rng.uniform(-0.003, 0.006), eye=eye))
    if rng.random() < 0.2:
        cloth = sample_cloth(rng, patterns=0.25)
        low = rng.uniform(-0.03, 0.01)
        front.append(HeadLayer("hat", cloth, rng.uniform(0.02, 0.04), "hat", low, loose=1.0, eye=eye))
        style = rng.choice(["cap", "brim", "beanie"], p=[0.45, 0.3, 0.25])
        if style != "beanie":
            outfit.hanging.append(Hanging("hat", cloth, str(style), top=low, thickness=rng.uniform(0.05, 0.11)))
    if not bald:
        shift = rng.uniform(-0.006, 0.012)
        puff = rng.uniform(0.012, 0.04) if long or woman else rng.uniform(0.006, 0.025)
        front.append(HeadLayer("hair", tress, puff, "scalp", shift, loose=1.0))
        if long:
            kind = rng.choice(["curtain", "tail", "bun"], p=[0.65, 0.22, 0.13])
            outfit.hanging.append(Hanging("hair", tress, str(kind), hem=rng.uniform(0.08, 0.42), thickness=puff,
                                          flare=rng.uniform(0.0, 0.04)))  # fmt: skip
    if rng.random() < 0.09:
        wool, end = sample_cloth(rng, patterns=0.6), rng.uniform(0.15, 0.5) * (rng.random() < 0.6)
        outfit.hanging.append(Hanging("scarf", wool, "scarf", hem=end, thickness=rng.uniform(0.028, 0.05)))
    outfit.layers[:0] = front
