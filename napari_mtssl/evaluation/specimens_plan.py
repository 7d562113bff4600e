"""What is trained on what: the plan of a cross-validation, its samples and the settings of each network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl.evaluation.crossval import SEED, folds_by_group, inner_split
from napari_mtssl.evaluation.hep2 import UNKNOWN, Specimens
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Trial
from napari_mtssl.evaluation.specimens_rows import epochs_of, settings_of


@dataclass(frozen=True)
class Plan:
    """What is trained on what.

    Attributes
    ----------
    data : Specimens
        Learnt from and scored on, fold by fold.
    folds : int
    overrides : mapping
        Single settings of the method.
    preset, device : str
    epochs : float
        Rounds over the labelled images; 0: the preset's number of steps.
    validate : bool
        Hold a fifth of the training patients out for curves and the choice of the best weights.
    seed : int
        Of the folds.
    folder : Path
        For runs and outcomes.
    threads : int
    only : tuple of int
        Folds to run; empty for all.
    draws : int
        How often each fold is learnt, with other labels kept and other first weights.
    """

    data: Specimens
    folder: Path
    folds: int = 5
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "robust"
    device: str = "auto"
    epochs: float = 0
    validate: bool = False
    seed: int = SEED
    threads: int = 1
    only: tuple[int, ...] = ()
    draws: int = 1

    def fold_of(self) -> np.ndarray:
        """Fold of each image.

        Raises
        ------
        DataError
            If there are fewer patients than folds.
        """
        return folds_by_group(self.data.groups, self.data.labels, self.folds, self.seed)

    @property
    def chosen(self) -> tuple[int, ...]:
        """Folds that are run.

        Raises
        ------
        DataError
            If there is no such fold.
        """
        wrong = [fold for fold in self.only if not 0 <= fold < self.folds]
        if wrong:
            raise DataError(
                f"There is no fold {wrong[0]}; of {self.folds} folds the last is {self.folds - 1}."
            )
        return self.only or tuple(range(self.folds))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials, a draw after the other: the first draw's are its folds."""
        return tuple(fold + self.folds * draw for draw in range(self.draws) for fold in self.chosen)

    def held_out(self, train: Specimens) -> np.ndarray:
        """Which of the images to learn from are held out to choose by: a fifth, whole patients, (N,) bool.

        Raises
        ------
        DataError
            If all of these images are of one patient.
        """
        if len(np.unique(train.groups)) < 2:
            raise DataError(
                "A fold leaves one patient to learn from, of whom none can be held out to choose weights by: "
                "use more patients or folds, or no inner validation."
            )
        return inner_split(train.groups, train.labels, seed=self.seed)


def image_set(data: Specimens, budget: int | str = "all", seed: int = 0, device: Any = "cpu") -> Any:
    """Make samples of a set; beyond the budget, images keep no label."""
    from napari_mtssl.methods.joint_unet import ImageSet
    from napari_mtssl.methods.joint_unet.samples import draw_labelled

    masks, labels = data.masks.copy(), {kind: values.copy() for kind, values in data.labels.items()}
    if budget != "all":
        keep = draw_labelled(labels, (masks != UNKNOWN).any((1, 2)), int(budget), seed)
        drop = np.setdiff1d(np.arange(len(data)), keep)
        masks[drop] = UNKNOWN
        for values in labels.values():
            values[drop] = -1
    return ImageSet.from_arrays(data.images, masks, labels, device)


def config_of(
    plan: Plan, trial: Trial, labelled: int, task: str = "", own: Mapping[str, Any] | None = None
) -> Any:
    """Put the settings of one network together: the plan's, the row's, and at last `own`."""
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    own = {**plan.overrides, **settings_of(trial.row), "seed": trial.seed, "only": task, **(own or {})}
    own.setdefault("size", plan.data.images.shape[1])
    config = JointUNetMethod.configure(plan.preset, **own)
    epochs = epochs_of(trial.row, plan.epochs)
    if epochs and "steps" not in plan.overrides:
        steps = max(1, math.ceil(epochs * labelled / config.batch_size))
        config = JointUNetMethod.configure(plan.preset, **own, steps=steps)
    return config
