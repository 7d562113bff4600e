"""Scores on labels that were held out."""

from __future__ import annotations

import torch

from napari_mtssl.methods.superres.bank import UNKNOWN, BlockBank, Field
from napari_mtssl.methods.superres.counts import Counts


class Tally:
    """Adds up what fields have to say.

    Parameters
    ----------
    classes : int
        Exact classes, the background first.
    """

    def __init__(self, classes: int) -> None:
        self.both = torch.zeros(classes)
        self.either = torch.zeros(classes)
        self.off = 0.0
        self.blocks = 0

    def add(self, probs: torch.Tensor, field: Field, counts: Counts, bank: BlockBank) -> None:
        """Take in a field: probabilities (L, h, w), and the counts of the bank's blocks in it."""
        here = counts.pixels > 0
        off = (counts.mean[here] - bank.eta[bank.coarse[here]]).abs().sum(1) / 2
        self.off += float(off.sum())
        self.blocks += int(here.sum())
        if field.exact is not None:
            known = field.exact != UNKNOWN
            guess, truth = probs.argmax(0)[known], field.exact[known].long()
            size = len(self.both)
            self.both += torch.bincount(truth[guess == truth], minlength=size).cpu()
            self.either += (
                torch.bincount(truth, minlength=size) + torch.bincount(guess, minlength=size)
            ).cpu()

    def scores(self) -> dict[str, float]:
        """``dice`` over the foreground classes, if pixels are painted, and ``counts``.

        ``counts`` is one minus the mean share of a block that is counted to the wrong class, going by the
        mean of its coarse class.
        """
        found = {}
        if float(self.either[1:].sum()) > 0:
            found["dice"] = float(2 * self.both[1:].sum() / self.either[1:].sum())
        if self.blocks:
            found["counts"] = 1.0 - self.off / self.blocks
        return found
