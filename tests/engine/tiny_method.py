"""A small method of its own: a real network, really trained, that finds three kinds of discs in milliseconds.

Its convolutions are valid (no padding), so dense outputs equal patch-wise ones exactly; it has what a
resumed run can lose (batch normalisation, a moving average with a count, random flips, AdamW).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image as Pillow
from scipy.ndimage import maximum_filter
from torch import nn
from torch.nn import functional as F

from napari_mtssl.images import to_float
from napari_mtssl.methods.base import Geometry, Method, MethodConfig, MethodError, Samples, StepOutput
from napari_mtssl.methods.prediction import Prediction

CLASSES = ("background", "red", "blue")
WINDOW, STRIDE = 16, 4


@dataclass
class TinySamples(Samples):
    patches: torch.Tensor  # (N, 3, 16, 16) in [0, 1]
    targets: torch.Tensor  # (N,)
    places: pd.DataFrame  # id, image_id, row, col
    unlabelled: torch.Tensor  # (M, 3, 16, 16)
    unlabelled_places: pd.DataFrame

    @property
    def n_labelled(self):
        return len(self.patches)

    @property
    def n_unlabelled(self):
        return len(self.unlabelled)

    def keys(self):
        rows = zip(self.places["row"], self.places["col"], self.targets.tolist(), strict=True)
        return dict(zip(self.places["id"], rows, strict=True))


class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            nn.Conv2d(3, 8, STRIDE, stride=STRIDE),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, WINDOW // STRIDE),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, classes, 1),
        )


class Tiny(Method):
    name = "tiny"
    title = "Discs"
    config_class = MethodConfig
    kinds = ("cell",)
    presets = {"robust": {"steps": 40, "batch_size": 16, "learning_rate": 1e-2}}
    geometry = Geometry(stride=STRIDE, halo=(WINDOW - STRIDE) // 2, window=WINDOW, margin=2 * STRIDE)

    def __init__(self, config, vocabulary, device):
        super().__init__(config, vocabulary, device)
        self.classes = self.vocabulary["cell"]
        self.net = Net(len(self.classes)).to(device)
        self.net.register_buffer("mean", torch.full((1, 3, 1, 1), torch.nan, device=device))
        self.net.register_buffer("count", torch.zeros((), dtype=torch.int64, device=device))
        self.average = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.steps_taken = 0  # for tests of latency

    network = property(lambda self: self.net)
    teacher = property(lambda self: self.average)

    def samples(self, study, images, split):
        cells = study.cells(split=split)
        cells = cells[cells["class"].isin(self.classes)].reset_index(drop=True)
        if cells["class"].nunique() < 2:
            raise MethodError("Label cells of at least two classes.")
        targets = torch.tensor([self.classes.index(name) for name in cells["class"]])
        patches, grids, places = [], [], []
        for record in study.images(split):
            image = images(record)
            own = cells[cells["image_id"] == record.id]
            patches.append(image.patches(own[["row", "col"]].to_numpy(), WINDOW))
            grid = np.stack(
                np.meshgrid(*[np.arange(12, n - 12, 24) for n in (image.height, image.width)]), -1
            )
            grids.append(image.patches(grid.reshape(-1, 2), WINDOW))
            places.append(
                pd.DataFrame(grid.reshape(-1, 2), columns=["row", "col"]).assign(image_id=record.id)
            )
        order = pd.concat([cells[cells["image_id"] == r.id] for r in study.images(split)]).index
        return TinySamples(
            self._tensor(patches),
            targets[order.to_numpy()],
            cells.loc[order].reset_index(drop=True),
            self._tensor(grids),
            pd.concat(places, ignore_index=True),
        )

    def _tensor(self, patches):
        return torch.from_numpy(to_float(np.concatenate(patches))).permute(0, 3, 1, 2).contiguous()

    def prepare(self, samples):
        for net in (self.net, self.average):
            if torch.isnan(net.mean).any():
                net.mean.copy_(samples.patches.mean((0, 2, 3), keepdim=True))

    def optimiser(self):
        return torch.optim.AdamW(self.net.parameters(), lr=self.config.learning_rate)

    def step(self, samples, progress, batch_size):
        self.steps_taken += 1
        self.net.train()
        index = torch.randint(len(samples.patches), (batch_size,))
        other = torch.randint(len(samples.unlabelled), (batch_size,))
        with torch.no_grad():
            guess = self.average(samples.unlabelled[other] - self.average.mean)[..., 0, 0].softmax(1)
        x = torch.cat([samples.patches[index], samples.unlabelled[other]]) - self.net.mean
        if torch.rand(()) < 0.5:
            x = x.flip(3)
        logits = self.net(x + 0.02 * torch.randn_like(x))[..., 0, 0]
        return StepOutput(
            {
                "labels": F.cross_entropy(logits[:batch_size], samples.targets[index]),
                "agreement": F.mse_loss(logits[batch_size:].softmax(1), guess),
            },
            {"labels": 1.0, "agreement": progress},
            {"index": other, "probs": guess},
        )

    @torch.no_grad()
    def after_step(self):
        self.net.count += 1
        keep = min(1 - 1 / (int(self.net.count) + 1), 0.9)
        for mine, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)
        for mine, theirs in zip(self.average.buffers(), self.net.buffers(), strict=True):
            mine.copy_(theirs)

    def describe(self, samples, pseudo):
        confidence, index = pseudo["probs"].max(1)
        frame = samples.unlabelled_places.iloc[pseudo["index"].numpy()].reset_index(drop=True)
        return frame.assign(**{"class": [self.classes[i] for i in index], "confidence": confidence.numpy()})

    def evaluate(self, samples):
        right = self.classify(samples.patches).argmax(1) == samples.targets
        return {"accuracy": float(right.float().mean())}

    @torch.no_grad()
    def classify(self, patches):
        return self.average(patches - self.average.mean)[..., 0, 0]

    def predict(self, tile):
        return {"logits": self.average(tile - self.average.mean)}

    def decode(self, maps, box):
        odds = np.exp(maps["logits"] - maps["logits"].max(0))
        probs = odds / odds.sum(0)
        uncertainty = -(probs * np.log(probs + 1e-12)).sum(0)
        strength = 1 - probs[0]
        i, j = np.nonzero((strength == maximum_filter(strength, 5, mode="constant")) & (strength > 0.5))
        frame = pd.DataFrame(
            {
                "row": box[0] + (STRIDE - 1) / 2 + i * STRIDE,
                "col": box[1] + (STRIDE - 1) / 2 + j * STRIDE,
                "class": np.array(self.classes)[1 + probs[1:, i, j].argmax(0)],
                "confidence": strength[i, j],
                "uncertainty": uncertainty[i, j],
            }
        )
        return Prediction(cells=frame, pictures={"uncertainty": uncertainty})


def make_method(seed=0, **settings):
    """A fresh method whose first weights follow from `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tiny(Tiny.configure(seed=seed, **settings), {"cell": CLASSES}, torch.device("cpu"))


def draw_discs(height, width, n, seed=0):
    """An image (H, W, 3) uint8 of red and blue discs on noise, and their places ``row, col, class``."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0.9, 0.03, (height, width, 3))
    rows, cols = np.mgrid[-7:8, -7:8]
    truth = []
    for _ in range(n):
        row, col, kind = rng.uniform(0, height - 1), rng.uniform(0, width - 1), int(rng.integers(1, 3))
        near, beside = rows + round(row), cols + round(col)
        disc = np.hypot(near - row, beside - col) < 6
        disc &= (near >= 0) & (near < height) & (beside >= 0) & (beside < width)
        pixels[near[disc], beside[disc]] = ((0.8, 0.2, 0.3), (0.2, 0.3, 0.8))[kind - 1] + rng.normal(
            0, 0.05, 3
        )
        truth.append((row, col, CLASSES[kind]))
    pixels = (pixels.clip(0, 1) * 255).astype(np.uint8)
    return pixels, pd.DataFrame(truth, columns=["row", "col", "class"])


def save_image(path, pixels):
    Pillow.fromarray(pixels).save(path)
    return Path(path)


@cache
def make_samples(n=60, seed=0):
    """Labelled and unlabelled patches of disc centres, without a study."""
    rng = np.random.default_rng(seed)
    pixels, truth = draw_discs(400, 400, 3 * n, seed)
    truth = truth[truth[["row", "col"]].gt(8).all(axis=1) & truth[["row", "col"]].lt(390).all(axis=1)].head(n)
    empty = pd.DataFrame(
        {"row": rng.uniform(8, 390, n), "col": rng.uniform(8, 390, n), "class": "background"}
    )
    places = pd.concat([truth, empty], ignore_index=True)
    corners = places[["row", "col"]].round().astype(int).to_numpy() - WINDOW // 2
    patches = np.stack([pixels[r : r + WINDOW, c : c + WINDOW] for r, c in corners])
    tensor = torch.from_numpy(to_float(patches)).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor([CLASSES.index(name) for name in places["class"]])
    places = places.assign(id=np.arange(1, len(places) + 1), image_id=1)
    return TinySamples(tensor, targets, places, tensor.flip(2), places[["image_id", "row", "col"]])
