"""One training on several devices: each runs the network on its share of a batch that all have drawn alike.

`lightning_fabric` starts the processes and connects them. All of them do the same steps with the same random
numbers; only what the network does within a step is divided. What it says is then put together in every
process, so that losses, which may compare any sample with any other, are those of the whole batch. Backwards
likewise: of a tensor that all processes have, each has the whole gradient; where a part of a network (a
decoder) was given such a tensor, the gradients of the shares are put together, too. Gradients of weights are
added up before the optimiser's step, batch normalisation takes its statistics over all processes, and dropout
is drawn for the whole batch. So a step equals that of one process but for rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce

from napari_mtssl.engine.peers import Alone
from napari_mtssl.methods.base import Method, MethodError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Outputs = Any  # a tensor (N, ...), or a tuple or dictionary of such


@dataclass(frozen=True)
class Share:
    """What one process does of a batch: images `index` of `count`; those after the first `real` fill up."""

    index: torch.Tensor
    real: int
    count: int


class Together(Alone):
    """One of several processes.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
        Launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.device = fabric.device
        self._dividing = False

    def share(self, method: Method) -> None:
        """Divide what a method's network and its teacher are asked for during steps.

        Raises
        ------
        MethodError
            If the method's steps cannot be divided.
        """
        if not method.divided:
            raise MethodError(f"{method.title} cannot be trained on several devices; use one.")
        if method.balancer is not None and method.balancer.looks_at_gradients:
            # a task's gradient is the sum of what it is in each process, as the whole's is
            method.balancer.add_up = self._sum  # type: ignore[assignment]
        for network in {method.network, method.teacher}:
            for layer in network.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.forward = partial(self._normalise, layer, layer.forward)  # type: ignore[method-assign]
                elif isinstance(layer, nn.modules.dropout._DropoutNd):
                    layer.forward = partial(self._drop, layer, layer.forward)
            for name in method.divided:
                setattr(network, name, partial(self._divided, getattr(network, name)))

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within this context networks are run on a share of what they are given."""
        self._dividing = True
        try:
            yield
        finally:
            self._dividing = False

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in one message."""
        grads = [p.grad for p in parameters if p.grad is not None]
        for grad, summed in zip(grads, self._sum(grads), strict=True):
            grad.copy_(summed)

    def _sum(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Add tensors up over all processes, in one message."""
        if not tensors:
            return []
        flat = self._fabric.all_reduce(torch.cat([one.reshape(-1) for one in tensors]), reduce_op="sum")
        assert isinstance(flat, torch.Tensor)
        parts = flat.split([one.numel() for one in tensors])
        return [part.view(one.shape) for one, part in zip(tensors, parts, strict=True)]

    def agree(self, *said: bool) -> tuple[bool, ...]:
        """Tell everybody what the first process says."""
        flags = torch.tensor(said, dtype=torch.uint8, device=self.device)
        return tuple(bool(flag) for flag in self._fabric.broadcast(flags))

    def same(self, keys: Mapping[int, Any]) -> bool:
        """Whether all processes have read the same labels."""
        digest = hashlib.blake2b(repr(sorted(keys.items())).encode(), digest_size=7).digest()
        mine = torch.tensor(int.from_bytes(digest, "little"), device=self.device)
        said = self._fabric.all_gather(mine)
        assert isinstance(said, torch.Tensor)
        return bool(torch.all(said == mine))

    def told(self, words: str) -> str:
        """Give what the first process says."""
        return str(self._fabric.broadcast(words))

    # -- what networks do instead ---------------------------------------------------------------------------

    def _divided(self, function: Callable[..., Outputs], *given: Any, **named: Any) -> Outputs:
        """Have a function of a network do this process's share, and put together what all say."""
        if not self._dividing or self._inside is not None:
            return function(*given, **named)
        count = _length(given)
        if count < self.world:
            return self._whole(function, count, *given, **named)
        size = -(-count // self.world)
        # the last share is filled up with the first images, so that all are equally long
        index = torch.arange(self.rank * size, (self.rank + 1) * size) % count
        self._inside = Share(index, min(max(count - self.rank * size, 0), size), count)
        try:
            said = function(*_each(given, lambda part: _Shared.apply(part, index.to(part.device))), **named)
        finally:
            self._inside = None
        return _each(said, lambda part: _Gathered.apply(part, self.rank, self.world)[:count])

    def _whole(self, function: Callable[..., Outputs], count: int, *given: Any, **named: Any) -> Outputs:
        """Have a function do all images in every process; of the weights' gradient each counts a share."""
        self._inside = Share(torch.arange(count), count, count)
        try:
            said = function(*_each(given, lambda part: _Scaled.apply(part, float(self.world))), **named)
        finally:
            self._inside = None
        return _each(said, lambda part: _Scaled.apply(part, 1.0 / self.world))

    # what this process does of the batch; None outside of divided functions
    _inside: Share | None = None

    def _drop(self, layer: nn.Module, forward: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Dropout as one process draws it: for the whole batch, of which a share is used."""
        inside = self._inside
        if not layer.training or inside is None or len(inside.index) != len(x):
            return forward(x)
        drawn = forward(x.new_ones(inside.count, *x.shape[1:]))
        return x * drawn[inside.index.to(x.device)]

    def _normalise(
        self, layer: nn.modules.batchnorm._BatchNorm, forward: Callable[..., torch.Tensor], x: torch.Tensor
    ) -> torch.Tensor:
        """Batch normalisation with the statistics of all processes."""
        inside = self._inside
        if not layer.training or inside is None or inside.count < self.world:
            return forward(x)
        real = x[: inside.real].float()  # of half precision, too: sums need more
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = real.new_tensor([real.numel() / real.shape[1]])
        total = all_reduce(torch.cat([real.sum(dims), count]))
        mean = total[:-1] / total[-1].detach()
        apart = all_reduce((real - mean.view(shape)).square().sum(dims))
        var = apart / total[-1].detach()
        if layer.track_running_stats and layer.running_mean is not None and layer.running_var is not None:
            number, rate = total[-1].detach(), layer.momentum or 0.1
            layer.running_mean.lerp_(mean.detach(), rate)
            layer.running_var.lerp_(var.detach() * number / (number - 1).clamp_min(1), rate)
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.add_(1)
        out = (x - mean.view(shape)) * torch.rsqrt(var + layer.eps).view(shape)
        out = out * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else out
        return out.to(x.dtype)


class _Gathered(torch.autograd.Function):
    """Put the shares of all processes together; backwards each takes the gradient of its own.

    Every process computes the whole loss, so the gradient of its share is complete.
    """

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, rank: int, world: int) -> torch.Tensor:
        """All shares, one after another."""
        ctx.rank, ctx.size = rank, len(part)
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Gradient of this process's share."""
        return grads[0][ctx.rank * ctx.size : (ctx.rank + 1) * ctx.size].contiguous(), None, None


class _Shared(torch.autograd.Function):
    """Take this process's share of what all have; backwards put the gradients of all shares together."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Give a share."""
        ctx.count = len(whole)
        return whole[index]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of all; that of images which only fill the last share up is zero, and left out."""
        part = grads[0].contiguous()
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts)[: ctx.count], None


class _Scaled(torch.autograd.Function):
    """The same values; of their gradient a share."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, share: float) -> torch.Tensor:
        """Give the values back."""
        ctx.share = share
        return part.view_as(part)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Scale the gradient."""
        return grads[0] * ctx.share, None


def _each(said: Outputs, do: Callable[[torch.Tensor], torch.Tensor]) -> Outputs:
    """Do something with every tensor of what a network is given or said; anything else stays."""
    if isinstance(said, torch.Tensor):
        return do(said)
    if isinstance(said, Mapping):
        return {name: _each(part, do) for name, part in said.items()}
    if isinstance(said, (list, tuple)):
        return type(said)(_each(part, do) for part in said)
    return said


def _length(given: Sequence[Any]) -> int:
    """Images in what a network is given: the length of its first tensor."""
    first = given[0]
    return len(first) if isinstance(first, torch.Tensor) else _length(first)


def together(devices: int, device: torch.device) -> Together:
    """Start the other processes, each of which runs the same command, and connect to them.

    Parameters
    ----------
    devices : int
    device : torch.device
        Its type says on what: ``cuda``, or ``cpu`` (gloo).

    Raises
    ------
    MethodError
        If `lightning_fabric` is not installed, or there are not so many devices.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MethodError(
            "Several devices need Lightning Fabric; install it with: pip install napari-mtssl[multi-gpu]"
        ) from error
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise MethodError(f"This computer has {torch.cuda.device_count()} CUDA device(s), not {devices}.")
    if device.type not in ("cuda", "cpu"):
        raise MethodError(f"Several devices of the type {device.type} cannot be used; choose cuda or cpu.")
    fabric = Fabric(accelerator=device.type, devices=devices, strategy="ddp")
    fabric.launch()
    return Together(fabric)
