"""MultiMix's network on parts of a slide: what it says of a part is what it would say of it in the whole.

Three things of the network on an image depend on all of it, and are settled for a slide once:

- instance normalisation, forwards and on the way back to the input (`HeldNorm`);
- which class's score the saliency is of, and over how many places the features are averaged. The head is
  linear, so that the gradient of one place is what this place adds: the average over a training image is
  taken, not the one over the slide, whose gradient would be nothing;
- where pixels are taken from when maps are enlarged: corners of an image that is cut do not exist. Half
  pixels are used; that is where the other way comes out in the middle of an image.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.nets.held_norm import HeldNorm, held_norms, hold, inner
from napari_mtssl.nets.multimix import DOWN, REDUCE, MultiMixNet


class SlideNet(nn.Module):
    """A `MultiMixNet` with held statistics; its weights are the network's own.

    Parameters
    ----------
    network : MultiMixNet
        With a decoder.
    size : int
        Side of the images that it learnt from.

    Attributes
    ----------
    unit : int
        Corners and sides of parts are multiples of this.
    reach, decoded : int
        Pixels around a place that the answer, and the decoder alone, depend on, at most; multiples of `unit`.
    """

    def __init__(self, network: MultiMixNet, size: int) -> None:
        super().__init__()
        # weights are shared: the copy is of layers only
        self.network = copy.deepcopy(network, {id(p): p for p in network.parameters()}).eval()
        self.network.corners = False
        for block in [*self.network.encoder, *self.network.decoder]:
            for at, layer in enumerate(block):
                if isinstance(layer, nn.InstanceNorm2d):
                    channels = block[at - 1].out_channels
                    block[at] = HeldNorm(channels, layer.eps)
        self.to(next(network.parameters()).device)
        self.seeing = len(network.heads) > 0
        self.places = (size // DOWN // 2) ** 2  # that the features of a training image are averaged over
        self.unit = 2 * DOWN if self.seeing else DOWN
        levels = len(network.encoder)
        self.reach = self._whole_units(_reach(levels, network.bridged, self.seeing))
        self.decoded = self._whole_units(_decoded(levels))

    def _whole_units(self, pixels: int) -> int:
        return -(-pixels // self.unit) * self.unit

    def encode(
        self, images: torch.Tensor, head: int = 0, index: int = 0
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Features of the five levels, and the absolute gradient of a class's score, if a class is learnt.

        Parameters
        ----------
        images : Tensor, shape (N, channels, H, W)
        head, index : int
            The class.

        Returns
        -------
        features : list of Tensor
        saliency : Tensor, shape (N, 1, H, W), or None
        """
        with torch.inference_mode(False), torch.enable_grad():
            pixels = images.detach().clone().requires_grad_(self.seeing)
            features = self.network.encode(pixels)
            saliency = None
            if self.seeing:
                weight = self.network.heads[head].weight[index].detach()  # type: ignore[index]
                seen = F.max_pool2d(features[-1], 2).sum((0, 2, 3)) / self.places
                (gradient,) = torch.autograd.grad((seen * weight).sum(), pixels)
                saliency = gradient.abs().amax(1, keepdim=True)
        return [level.detach() for level in features], saliency

    def decode(
        self, features: list[torch.Tensor], bridge: torch.Tensor | None, trim: int = 0
    ) -> torch.Tensor:
        """Mask logits of features, and of image and saliency (`MultiMixNet.reduce`) if there is a bridge.

        Without so many pixels at each border, a multiple of `unit`: they served what came before.
        """
        features = [inner(values, trim >> level) for level, values in enumerate(features)]
        return self.network.decode(features, None if bridge is None else inner(bridge, trim // REDUCE))

    def take(self, rim: int) -> None:
        """Take statistics of what is seen from now on, without so many pixels at each border."""
        blocks = [*enumerate(self.network.encoder), *enumerate(reversed(self.network.decoder))]
        for level, block in blocks:
            for layer in held_norms(block).values():
                layer.rim = rim >> level

    def statistics(self) -> dict[str, torch.Tensor]:
        """Give what was taken, (4, channels) of each layer."""
        return {name: layer.held.clone() for name, layer in held_norms(self).items()}

    def hold(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Use such statistics."""
        hold(self, statistics)


def ranges(saliency: torch.Tensor, size: int, rim: int) -> tuple[float, float]:
    """Least and greatest value that a field of `size` pixels has, on average over all fields.

    Parameters
    ----------
    saliency : Tensor, shape (N, 1, H, W)
    size, rim : int
        Pixels; those of the rim are left out.
    """
    seen = inner(saliency, rim)
    side = min(size, *seen.shape[-2:])
    low, high = -F.max_pool2d(-seen, side), F.max_pool2d(seen, side)
    return float(low.mean()), float(high.mean())


def _reach(levels: int, bridged: bool, seeing: bool) -> int:
    """Pixels beyond a place that its mask and its saliency depend on.

    A 3x3 convolution of a level reaches one of its elements further, and each block has two. Enlarging takes
    a neighbour of the parent, which is two elements further at most.
    """
    encoder = sum(2 * 2**level for level in range(levels))
    # the gradient at a pixel depends on all units between it and the deepest pool, each on what it sees
    sight = 2 * encoder + 2 * DOWN
    entry = REDUCE.bit_length() - 1  # the level at which the bridge comes in
    shown = _decoded(entry + 1) + 2 * REDUCE + sight
    return max(_decoded(levels) + encoder, sight if seeing else 0, shown if bridged else 0)


def _decoded(levels: int) -> int:
    """Pixels beyond a place that its mask depends on in the coarsest of some levels."""
    return sum(4 * 2**level for level in range(levels - 1))
