"""Has the low resolution model label the blocks that nobody labelled, in a thread. Knows no Qt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Event

ANNOTATOR = "low resolution model"  # so that the study tells its blocks from those that people gave


@dataclass(frozen=True)
class GuessingBlocks(Event):
    """The low resolution model learns from blocks, or looks at those without a class.

    Attributes
    ----------
    done, total : int
        Steps and blocks together.
    """

    kind = "guessing_blocks"
    done: int
    total: int


@dataclass(frozen=True)
class BlocksGuessed(Event):
    """Blocks have a class now that had none; one undo takes it from all of them.

    Attributes
    ----------
    blocks, images : int
        How many.
    """

    kind = "blocks_guessed"
    blocks: int
    images: int


class GuessJob:
    """Train a classifier of blocks, and give the others the class that it sees, as one edit.

    Parameters
    ----------
    study_path : Path
    image_ids : list of int
        Whose blocks get a class.
    steps : int
        Optimiser updates.
    threads : int or None
    """

    def __init__(
        self, study_path: Path, image_ids: list[int], steps: int = 400, threads: int | None = None
    ) -> None:
        self.study_path, self.image_ids = study_path, image_ids
        self.steps, self.threads = steps, threads
        self.control = Control()

    def events(self) -> Iterator[Event]:
        """Iterate in the thread; a stop leaves the study as it was."""
        from napari_mtssl.engine.devices import training_threads
        from napari_mtssl.images import ImagePool
        from napari_mtssl.methods.superres.coarse import guess_blocks, keep_guesses
        from napari_mtssl.study import Study

        with Study.open(self.study_path, annotator=ANNOTATOR) as study, training_threads(self.threads):
            names = [[item.name for item in study.classes(kind)] for kind in ("block", "mask")]
            asked = [image_id for image_id in self.image_ids if study.grid(image_id) is not None]
            found: dict[int, dict[tuple[int, int], np.ndarray]] = {image_id: {} for image_id in asked}
            for guess in guess_blocks(study, ImagePool(), *names, image_ids=asked, steps=self.steps):
                if self.control.stopped:
                    return
                if guess.image_id is not None:
                    found[guess.image_id] |= guess.shares
                yield GuessingBlocks(guess.done, guess.done, guess.total)
            yield BlocksGuessed(self.steps, *keep_guesses(study, found, *names))
