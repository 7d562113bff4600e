"""Guesses for every pixel that agree with what is known of its block."""

from __future__ import annotations

import torch

HALVINGS = 14  # of an interval of 40 logits: 0.002
ROUNDS = 25


@torch.no_grad()
def fitted_probs(
    logits: torch.Tensor, ids: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """Probabilities nearest to the predicted ones whose mean in each block lies between given shares.

    In each block one constant is added to each class's logits: of all distributions with the wanted mean
    that is the one nearest to the predicted one (Kullback-Leibler). Which pixels are likelier than others in
    a block stays as the network has it; how many there are becomes what the block's class says.

    Parameters
    ----------
    logits : Tensor, shape (N, L, H, W)
    ids : Tensor of int64, shape (N, H, W)
        Block of each pixel, from 1; pixels of no block (0) keep their probabilities.
    low, high : Tensor, shape (n, L)
        Least and largest share of each class in each block.

    Returns
    -------
    Tensor, shape (N, L, H, W)
    """
    classes, blocks = logits.shape[1], len(low)
    flat = logits.float().movedim(1, -1).reshape(-1, classes)
    index = ids.reshape(-1)
    area = torch.bincount(index, minlength=blocks + 1).clamp_min(1).float()[:, None]

    def mean(probs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(blocks + 1, probs.shape[1], device=probs.device).index_add(0, index, probs) / area

    free = torch.zeros(1, classes, device=low.device)
    least, most = torch.cat([free, low]), torch.cat([free + 1, high])
    wanted = mean(flat.softmax(1)).clamp(least, most).clamp(1e-3, 1.0)
    wanted = wanted / wanted.sum(1, keepdim=True)
    if classes == 2:
        shift = _two(flat[:, 1] - flat[:, 0], index, wanted[:, 1:], mean)
    else:
        shift = torch.zeros_like(wanted)
        for _ in range(ROUNDS):
            found = mean((flat + shift[index]).softmax(1)).clamp_min(1e-6)
            shift = shift + (wanted / found).log()
    shift[0] = 0.0
    probs = (flat + shift[index]).softmax(1)
    return probs.view(*ids.shape, classes).movedim(-1, 1)


def _two(margin: torch.Tensor, index: torch.Tensor, wanted: torch.Tensor, mean: object) -> torch.Tensor:
    """Shift of the logits of two classes, by halving: also right where nearly all pixels are certain."""
    assert callable(mean)
    below, above = torch.full_like(wanted, -20.0), torch.full_like(wanted, 20.0)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        less = mean((margin[:, None] + middle[index]).sigmoid()) < wanted
        below, above = torch.where(less, middle, below), torch.where(less, above, middle)
    return torch.cat([torch.zeros_like(wanted), (below + above) / 2], dim=1)
