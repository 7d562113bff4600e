"""Which blocks make up a batch: whole groups of one coarse class."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GroupSampler:
    """Draws groups of blocks of one coarse class each.

    Parameters
    ----------
    coarse : Tensor of int, shape (B,)
        Coarse class of each block there is.
    size : int
        Blocks in a group; a class that has fewer gives all it has.
    groups : int
        Groups in a batch, of different classes as long as there are some.

    Notes
    -----
    A class is drawn as often as it has blocks, so that on average every block is seen equally often.
    """

    coarse: torch.Tensor
    size: int = 15
    groups: int = 2

    def __call__(self) -> torch.Tensor:
        """Draw one batch from torch's default generator: indices of its blocks, group after group."""
        numbers = torch.bincount(self.coarse).float()
        count = min(self.groups, int((numbers > 0).sum()))
        kinds = torch.multinomial(numbers, count)
        chosen = []
        for kind in kinds:
            (own,) = torch.nonzero(self.coarse == kind, as_tuple=True)
            chosen.append(own[torch.randperm(len(own), device=own.device)[: self.size]])
        return torch.cat(chosen)
