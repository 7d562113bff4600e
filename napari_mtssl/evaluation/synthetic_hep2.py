"""Made-up HEp-2 specimens: seven staining patterns, two intensities, an exact mask, and patients that differ.

Every patient has a staining, a background, a sharpness, a noise and cells of their own, so that images of one
patient are alike: a network that has seen a patient knows more of their other images than of a stranger's,
and a split by patient is harder than a random one, as in the clinic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_mtssl.study.templates import HEP2_INTENSITIES, HEP2_PATTERNS

PATTERNS = {name: note for name, note, _ in HEP2_PATTERNS}
INTENSITIES = tuple(name for name, _ in HEP2_INTENSITIES)
BRIGHTNESS = {"intermediate": 0.42, "positive": 0.80}
# Specimens of each pattern in I3A Task 2.
FREQUENCY = np.array([53, 52, 50, 51, 10, 21, 15], float)


@dataclass(frozen=True)
class Patient:
    """What all images of a patient have in common; drawn by `draw_patient`."""

    pattern: str
    intensity: str
    gain: float
    background: float
    blur: float
    noise: float
    radius: float
    tint: tuple[float, float, float]
    cytoplasm: float


@dataclass(frozen=True)
class Specimen:
    """One image and everything that is true of it.

    Attributes
    ----------
    image : ndarray of uint8, shape (size, size, 3)
    mask : ndarray of bool, shape (size, size)
        The cells: their nuclei.
    pattern, intensity : str
    patient : int
    """

    image: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    pattern: str
    intensity: str
    patient: int


def draw_patient(rng: np.random.Generator, pattern: str, intensity: str, spread: float = 1.0) -> Patient:
    """Draw how a patient's slides look; `spread` 0 makes all patients alike."""
    return Patient(
        pattern,
        intensity,
        gain=float(np.exp(0.11 * spread * rng.standard_normal())),
        background=float(0.03 + 0.05 * spread * rng.random()),
        blur=float(0.35 + 0.45 * spread * rng.random()),
        noise=float(0.01 + 0.03 * spread * rng.random()),
        radius=float(np.exp(0.13 * spread * rng.standard_normal())),
        tint=tuple(0.16 * spread * rng.random(3) * (1.0, 0.0, 1.3)),
        cytoplasm=float(0.10 + 0.16 * spread * rng.random()),
    )


def specimens(
    patients: int,
    each: int = 4,
    *,
    size: int = 96,
    seed: int = 0,
    spread: float = 1.0,
    balanced: bool = False,
) -> list[Specimen]:
    """Make images of many patients.

    Parameters
    ----------
    patients : int
        Each with one pattern and one intensity.
    each : int
        Images of each patient.
    size : int
        Side in pixels, at least 48.
    seed : int
        The same seed gives the same specimens.
    spread : float
        How much patients differ.
    balanced : bool
        All patterns equally often, not as often as in I3A Task 2.

    Returns
    -------
    list of Specimen
        Patient by patient.

    Raises
    ------
    ValueError
        If a number is not possible.
    """
    if patients < 1 or each < 1 or size < 48:
        raise ValueError("There must be a patient with an image, of at least 48 pixels.")
    rng = np.random.default_rng(seed)
    names = list(PATTERNS)
    share = np.full(len(names), 1 / len(names)) if balanced else FREQUENCY / FREQUENCY.sum()
    # every pattern in its share, and none missing where there are patients enough
    counts = np.maximum(np.floor(share * patients).astype(int), 1 if patients >= len(names) else 0)
    order = np.repeat(np.arange(len(names)), counts)[:patients]
    order = np.append(order, rng.choice(len(names), patients - len(order), p=share))
    found = []
    for number, place in enumerate(rng.permutation(order)):
        intensity = INTENSITIES[int(rng.random() < 0.44)]
        patient = draw_patient(rng, names[place], intensity, spread)
        found += [_specimen(rng, patient, number, size) for _ in range(each)]
    return found


def write_i3a(items: list[Specimen], folder: Path) -> None:
    """Write specimens in the layout of I3A Task 2 that `read_specimens` reads."""
    import imageio.v3 as iio

    lines = ["id,image,mask,pattern,intensity,specimen"]
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(items, start=1):
        image, mask = f"{number:05d}.png", f"{number:05d}_mask.png"
        iio.imwrite(folder / image, item.image)
        iio.imwrite(folder / mask, item.mask.astype(np.uint8) * 255)
        lines.append(f"{number},{image},{mask},{item.pattern},{item.intensity},{item.patient}")
    (folder / "gt_training.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _specimen(rng: np.random.Generator, patient: Patient, number: int, size: int) -> Specimen:
    from scipy.ndimage import gaussian_filter

    light = np.zeros((size, size), np.float32)
    mask = np.zeros((size, size), bool)
    unit = size * 0.115 * patient.radius  # half a nucleus
    centres = _places(rng, size, unit)
    mitotic = rng.random(len(centres)) < (0.45 if patient.pattern == "mitsp" else 0.08)
    if patient.pattern == "mitsp" and len(centres):
        mitotic[int(rng.integers(len(centres)))] = True
    grain = _grain(rng, size, unit)
    for centre, divides in zip(centres, mitotic, strict=True):
        _cell(rng, light, mask, centre, unit, patient, bool(divides), grain)
    light = gaussian_filter(light, patient.blur * size / 96)
    level = BRIGHTNESS[patient.intensity] * patient.gain * np.exp(0.04 * rng.standard_normal())
    shade = 1 + 0.06 * gaussian_filter(rng.standard_normal((size, size)), size / 4) * size / 4
    green = patient.background + level * light * shade
    image = np.stack([green * patient.tint[0], green, green * patient.tint[2]], -1)
    image += patient.noise * rng.standard_normal(image.shape) * (0.4 + image)
    return Specimen(
        np.clip(np.rint(image * 255), 0, 255).astype(np.uint8),
        mask,
        patient.pattern,
        patient.intensity,
        number,
    )


def _places(rng: np.random.Generator, size: int, unit: float) -> np.ndarray:
    """Centres (N, 2) of cells that do not touch."""
    kept: list[np.ndarray] = []
    for _ in range(60):
        point = rng.uniform(-0.3 * unit, size + 0.3 * unit, 2)
        if all(np.hypot(*(point - other)) > 2.6 * unit for other in kept):
            kept.append(point)
    few = int(rng.integers(max(2, len(kept) // 2), len(kept) + 1))
    return np.array(kept[:few])


def _grain(rng: np.random.Generator, size: int, unit: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((size, size)), unit * 0.13)
    return (noise / noise.std()).astype(np.float32)


def _cell(
    rng: np.random.Generator,
    light: np.ndarray,
    mask: np.ndarray,
    centre: np.ndarray,
    unit: float,
    patient: Patient,
    divides: bool,
    grain: np.ndarray,
) -> None:
    """Add one cell's light, and its nucleus to the mask."""
    size = len(light)
    angle, long = rng.uniform(0, np.pi), unit * rng.uniform(1.0, 1.2)
    wide = long * rng.uniform(0.78, 0.98)
    top, left = (max(int(c - 3 * unit), 0) for c in centre)
    bottom, right = (min(int(c + 3 * unit) + 1, size) for c in centre)
    if top >= bottom or left >= right:
        return
    y, x = np.ogrid[top:bottom, left:right]
    y, x = y - centre[0], x - centre[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    away = np.sqrt((along / long) ** 2 + (across / wide) ** 2)
    here = np.s_[top:bottom, left:right]
    nucleus = away <= 1
    soft = _soft(away - 1, 0.12)
    body = patient.cytoplasm * _soft(np.sqrt((along / long) ** 2 + (across / wide) ** 2) - 1.75, 0.5)
    if divides:
        shown = _dividing(patient.pattern, along / long, across / wide)
    else:
        shown = _interphase(rng, patient.pattern, away, along / long, across / wide, grain[here])
    inside = shown if patient.pattern == "golgi" and not divides else shown * soft
    light[here] = np.maximum(light[here], body * (1 - 0.3 * soft) + inside)
    mask[here] |= nucleus


def _interphase(
    rng: np.random.Generator,
    pattern: str,
    away: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    """Light of a nucleus at rest; coordinates in half axes."""
    if pattern == "homogeneous":
        return 0.82 + 0.03 * grain
    if pattern == "speckled":
        return (0.55 + 0.24 * grain).clip(0.1, 1.1)
    if pattern == "nucleolar":
        return 0.30 + _dots(rng, int(rng.integers(1, 6)), 0.24, along, across, 0.55)
    if pattern == "centromere":
        return 0.24 + _dots(rng, int(rng.integers(22, 34)), 0.085, along, across, 0.95) * 0.95
    if pattern == "golgi":
        pole = rng.uniform(0, 2 * np.pi)
        turn = np.angle(np.exp(1j * (np.arctan2(across, along) - pole)))
        ribbon = np.exp(-(((away - 1.28) / 0.17) ** 2)) * np.exp(-((turn / 0.7) ** 4))
        return 0.20 * _soft(away - 1, 0.12) + 0.9 * ribbon * (0.75 + 0.35 * grain).clip(0.2)
    if pattern == "numem":
        return 0.42 + 0.55 * np.exp(-(((away - 0.9) / 0.13) ** 2))
    return 0.26 + 0.04 * grain  # mitotic spindle: cells at rest are dim


def _dividing(pattern: str, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Light of a mitotic cell: a plate of chromatin, or the spindle between two poles."""
    if pattern == "mitsp":
        waist = 0.42 * np.cos(np.clip(along / 0.95, -1, 1) * np.pi / 2) + 0.06
        return 0.12 + 0.95 * np.exp(-((across / waist) ** 2)) * (np.abs(along) < 0.95)
    plate = np.exp(-((along / 0.22) ** 2)) * (np.abs(across) < 0.8)
    bright = {"homogeneous": 0.95, "centromere": 0.8, "speckled": 0.0, "nucleolar": 0.25}.get(pattern, 0.0)
    return 0.22 + bright * plate


def _dots(
    rng: np.random.Generator, count: int, radius: float, along: np.ndarray, across: np.ndarray, high: float
) -> np.ndarray:
    light = np.zeros_like(along)
    for _ in range(count):
        r, t = 0.82 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        near = (along - r * np.cos(t)) ** 2 + (across - r * np.sin(t)) ** 2
        light = np.maximum(light, high * np.exp(-near / radius**2))
    return light


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """1 inside (negative distance), 0 outside, with a soft edge."""
    soft: np.ndarray = 1 / (1 + np.exp(np.clip(distance / (width / 4), -40, 40)))
    return soft
