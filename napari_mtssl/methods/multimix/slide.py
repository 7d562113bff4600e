"""The mask of a slide, tile by tile, by a network that normalises each image by itself.

What it takes from an image as a whole is taken of the slide once, from places all over its tissue
(`SlideFields.look_over`), and is the same for every tile: so a tile with as much around it as the network can
see equals the whole at once. What class the image is of stays the answer to the image as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_mtssl.images import to_float
from napari_mtssl.learning.radiograph import rank_table, ranked
from napari_mtssl.methods.base import Geometry, Prediction
from napari_mtssl.methods.multimix import losses as loss
from napari_mtssl.methods.multimix.refine import smoothed
from napari_mtssl.nets.held_norm import inner
from napari_mtssl.nets.multimix_slide import SlideNet, ranges

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.images.tissue import TissueMask
    from napari_mtssl.methods.multimix.method import MultiMix

# Statistics come from so many windows of the slide, of which a rim does not count: it has seen padding. All
# are in memory at once, with what the way back needs: about as much as a tile of 650 pixels.
WINDOWS, SIDE, RIM = 8, 384, 64


class SlideFields:
    """What the prediction of slides needs of a method; the rest is the method's own.

    Parameters
    ----------
    method : MultiMix
        One that learnt a mask, and whose bridge does not show another image's saliency.
    whole : mapping of str to ndarray
        What `look_over` gave, to predict tiles.
    """

    whole_image = False

    def __init__(self, method: MultiMix, whole: Mapping[str, np.ndarray] | None = None) -> None:
        self._method = method
        self._net = SlideNet(method.teacher, method.config.size)
        self._whole = {
            name: torch.from_numpy(np.array(values)).to(method.device)
            for name, values in (whole or {}).items()
        }
        self._turns = 2 if method.mirrors else 1
        self._sigma = method.config.smooth * method.config.size
        margin = math.ceil(4 * self._sigma)  # where scipy cuts a Gaussian off
        self.geometry = Geometry(
            stride=1, halo=self._net.reach, window=1, margin=margin, align=self._net.unit
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    # -- the slide as a whole ------------------------------------------------------------------------------

    def look_over(self, view: Image, tissue: TissueMask) -> dict[str, np.ndarray]:
        """Take from a slide what its tiles must know of all of it; see `Method.look_over`."""
        pixels = [to_float(view.read(row, col, SIDE, SIDE)) for row, col in places(view, tissue)]
        windows = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        index = 0
        if self._method.heads:
            # the class that the slide is said to be of, which is what its saliency is to be of, too
            _, classes = self._method.predict_fields(self._method.pixels_of(view))
            index = int(next(iter(classes.values()))[0].argmax())
        return self.whole_of(windows, index, RIM)

    @torch.no_grad()
    def whole_of(self, windows: torch.Tensor, index: int, rim: int) -> dict[str, np.ndarray]:
        """Statistics of windows (N, 3, H, W) in [0, 1] as parts of one image, all but a rim.

        Parameters
        ----------
        windows : Tensor
        index : int
            Of the class in the first head whose saliency is shown.
        rim : int
            Pixels at the windows' borders that do not count.
        """
        seen = self._coloured(windows.to(self._method.device))
        whole = {"index": torch.tensor(index), **self._greys(seen)}
        seen = self._normal(seen, whole)
        for turn in range(self._turns):
            self._net.take(rim)
            view = seen.flip(3) if turn else seen
            features, saliency = self._net.encode(view, 0, index)
            if saliency is not None:
                span = ranges(saliency, self._method.config.size, rim)
                whole[f"range.{turn}"] = torch.tensor(span)
            self._net.decode(features, self._bridge(view, saliency, whole, turn))
            del features, saliency  # large, and the next turn has its own
            whole |= {f"{name}.{turn}": held for name, held in self._net.statistics().items()}
        return {name: values.cpu().numpy() for name, values in whole.items()}

    def knowing(self, whole: Mapping[str, np.ndarray]) -> SlideFields:
        """Give what predicts tiles of the slide that `look_over` was asked of."""
        return SlideFields(self._method, whole)

    def _greys(self, seen: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take what the grey values of all windows are normalised with."""
        if self._method.config.normalisation == "dataset":
            return {}
        found = {}
        tall = seen.permute(1, 0, 2, 3).flatten(1, 2)[None]  # (1, C, N H, W): all windows as one image
        if self._method.config.normalisation == "equalised":
            found = dict(zip(("low", "high", "ranks"), rank_table(tall), strict=True))
            tall = ranked(tall, *found.values())
        std, mean = torch.std_mean(tall, (2, 3), keepdim=True)
        return {**found, "mean": mean, "std": std.clamp_min(1e-3)}

    # -- a tile --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, tile: torch.Tensor) -> dict[str, torch.Tensor]:
        """``probs`` (1, K, h, w) of the mask's classes and ``saliency`` (1, 1, h, w), without the halo."""
        if not self._whole:
            raise RuntimeError("MultiMix predicts tiles of a slide only once it has looked it over.")
        whole, net = self._whole, self._net
        halo, left = net.reach, net.decoded
        seen = self._normal(self._coloured(tile), whole)
        probs, shown = [], None
        for turn in range(self._turns):
            net.hold({n.removesuffix(f".{turn}"): v for n, v in whole.items() if n.endswith(f".{turn}")})
            view = seen.flip(3) if turn else seen
            features, saliency = net.encode(view, 0, int(whole["index"]))
            bridge = self._bridge(view, saliency, whole, turn)
            found = loss.probabilities(inner(net.decode(features, bridge, halo - left), left))
            probs.append(found.flip(3) if turn else found)
            if saliency is not None and shown is None:
                shown = _ranged(inner(saliency, halo), whole["range.0"]).clamp(0, 1)
        maps = {"probs": torch.stack(probs).mean(0)}
        return maps if shown is None else maps | {"saliency": shown}

    def decode(self, maps: Mapping[str, np.ndarray], box: tuple[int, int, int, int]) -> Prediction:
        """Give the probabilities as a mask, their entropy as ``uncertainty``, and the ``saliency``.

        Masks are smoothed as the settings say. Which of their parts are the largest, and what is a hole, no
        tile can tell: of slides all parts are kept, and holes stay.
        """
        probs = smoothed(np.asarray(maps["probs"], np.float32), self._sigma)
        entropy = -(probs * np.log(probs.clip(1e-8))).sum(0) / math.log(len(probs))
        pictures = {"uncertainty": entropy.astype(np.float32)}
        if "saliency" in maps:
            pictures["saliency"] = np.asarray(maps["saliency"][0], np.float32)
        return Prediction(mask=probs, pictures=pictures)

    def _coloured(self, tile: torch.Tensor) -> torch.Tensor:
        """Channels that the network sees of pixels (N, 3, H, W)."""
        return tile.mean(1, keepdim=True) if self._method.config.colour == "grey" else tile

    def _normal(self, seen: torch.Tensor, whole: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Normalise by all images that were learnt from, or by the slide, as the settings say."""
        if self._method.config.normalisation == "dataset":
            return self._method.normal(seen)
        if "ranks" in whole:
            table = [whole[name].expand(len(seen), -1, -1) for name in ("low", "high", "ranks")]
            seen = ranked(seen, *table)
        return (seen - whole["mean"]) / whole["std"]

    def _bridge(
        self,
        view: torch.Tensor,
        saliency: torch.Tensor | None,
        whole: Mapping[str, torch.Tensor],
        turn: int,
    ) -> torch.Tensor | None:
        """Make what the decoder is shown, as `MultiMix` does of an image."""
        net, config = self._net.network, self._method.config
        if not net.bridged or saliency is None:
            return None
        if config.bridge == "zeros":
            saliency = torch.zeros_like(saliency)
        elif config.saliency_norm == "minmax":
            saliency = _ranged(saliency, whole[f"range.{turn}"])
        return net.reduce(view, saliency)


def _ranged(saliency: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """Stretch a saliency so that a range becomes 0 to 1."""
    spread = span[1] - span[0]
    return (saliency - span[0]) / spread if spread > 0 else torch.zeros_like(saliency)


def places(view: Image, tissue: TissueMask) -> list[tuple[int, int]]:
    """First rows and columns of windows with tissue in their middle, spread over a slide; always the same."""
    step = SIDE - 2 * RIM
    tops, lefts = (np.arange(0, size, step) for size in (view.height, view.width))
    corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    middles = np.minimum(corners + step / 2, np.array([view.height, view.width]) - 1)
    on = tissue.contains((middles + 0.5) * view.scale - 0.5)
    corners = corners[on] if on.any() else corners
    chosen = np.random.default_rng(0).permutation(len(corners))[:WINDOWS]
    return [(int(row) - RIM, int(col) - RIM) for row, col in corners[np.sort(chosen)]]
