"""Where a training run's samples come from: a study that people edit meanwhile, or a fixed set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from napari_mtssl.methods.base import Method, MethodError, Samples
from napari_mtssl.methods.labels import named_now
from napari_mtssl.study.records import BACKGROUND

if TYPE_CHECKING:
    from napari_mtssl.images import ImagePool
    from napari_mtssl.study import Study


class SampleSource(Protocol):
    """What the training loop asks for samples.

    Attributes
    ----------
    left_out : tuple of str
        Classes whose labels were left out when samples were last read: the network has no output for them.
    """

    left_out: tuple[str, ...]

    def training(self) -> Samples:
        """Read the samples to learn from, as of now."""

    def validation(self) -> Samples | None:
        """Read the held-out samples, as of now; None if there are none."""

    def changed(self) -> bool:
        """Whether the samples changed since they were last read; asked before every step, so it is cheap."""


class FixedSource:
    """Samples that never change, for evaluation and benchmarks.

    Parameters
    ----------
    training : Samples
    validation : Samples, optional
    """

    left_out: tuple[str, ...] = ()

    def __init__(self, training: Samples, validation: Samples | None = None) -> None:
        self._training = training
        self._validation = validation

    def training(self) -> Samples:
        """Return the training samples."""
        return self._training

    def validation(self) -> Samples | None:
        """Return the held-out samples."""
        return self._validation

    def changed(self) -> bool:
        """Return False."""
        return False


class StudySource:
    """Samples of a study, read anew when somebody edits it.

    Parameters
    ----------
    method : Method
        Says how samples are made.
    study : Study
        Opened in the thread that trains.
    images : ImagePool
    settle_seconds : float
        Clicks come in bursts; where reading takes long, they are taken in when none came for so long, at the
        latest after four times that.
    quick_seconds : float
        Samples that were read anew in less time than that are read before the very next step.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        method: Method,
        study: Study,
        images: ImagePool,
        *,
        settle_seconds: float = 0.5,
        quick_seconds: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._method = method
        self._study = study
        self._images = images
        self._settle, self._quick = settle_seconds, quick_seconds
        self._reading: float | None = None  # seconds it took to read samples again, once that is known
        self._begun = False
        self.left_out: tuple[str, ...] = ()
        self._clock = clock
        self._read = self._latest = study.change_counter()
        self._first_change = self._last_change = 0.0

    def training(self) -> Samples:
        """Read the samples of split ``train``.

        Raises
        ------
        MethodError
            If groups leak between splits, or labels are too few (`LabelsMissingError`).
        ClassRenamedError
        If a class was renamed since training started.
        """
        # read the counter first: an edit made while samples are read is seen the next time
        self._read = self._latest = self._study.change_counter()
        begin = self._clock()
        check_groups(self._study)
        self.left_out = unknown_classes(self._study, self._method)
        try:
            samples = self._method.samples(self._study, self._images, "train")
        except MethodError as error:
            raise LabelsMissingError(str(error)) from error
        if self._begun:  # the first time pixels are read as well
            self._reading = self._clock() - begin
        self._begun = True
        return samples

    def validation(self) -> Samples | None:
        """Read the samples of split ``validation``; None if nothing there is labelled."""
        if not self._method.labels_of(self._study, "validation"):
            return None
        return self._method.samples(self._study, self._images, "validation")

    def changed(self) -> bool:
        """Whether the study was edited, by whichever connection, and the burst of edits is over.

        Raises
        ------
        StudyError
            If the study was moved or deleted meanwhile.
        """
        counter = self._study.change_counter()
        if counter == self._read:
            return False
        if (self._reading or 0.0) < self._quick:
            return True
        now = self._clock()
        if self._latest == self._read:
            self._first_change = now
        if counter != self._latest:
            self._latest, self._last_change = counter, now
        return now - self._last_change >= self._settle or now - self._first_change >= 4 * self._settle


def check_groups(study: Study) -> None:
    """Refuse a group (patient, slide) whose images are in more than one split: scores would be too good.

    Raises
    ------
    MethodError
        Naming the group and its splits.
    """
    for group, splits in study.parted_groups().items():
        raise MethodError(
            f"The group '{group}' has images in the splits {' and '.join(splits)}; "
            "give all images of a group the same split."
        )


class ClassRenamedError(MethodError):
    """A class has another name than when the method was made: it must be made again, with its weights."""


class LabelsMissingError(MethodError):
    """There are not labels enough to learn from, or they may not be used together."""


def unknown_classes(study: Study, method: Method) -> tuple[str, ...]:
    """List the classes of labels that the network has no output for: made after training started.

    Raises
    ------
    ClassRenamedError
        If a class that the network knows has another name now.
    """
    for kind, names in named_now(study, method.vocabulary).items():
        for old, new in zip(method.vocabulary[kind], names, strict=True):
            if old != new:
                raise ClassRenamedError(
                    f"The class '{old}' is called '{new}' since training started; go on with this run."
                )
    labels = method.labels_of(study, "train")
    unknown = {kind: labels[kind] - set(method.vocabulary.get(kind, ())) for kind in labels}
    if unknown.get("mask"):  # labels_of does not look at pixels, and a class nobody painted harms nobody
        unknown["mask"] &= _painted(study)
    found = {name for names in unknown.values() for name in names}
    return tuple(sorted(found, key=lambda name: (name == BACKGROUND, name)))


def _painted(study: Study) -> set[str]:
    """Mask classes that pixels of training images have."""
    codes: set[int] = set()
    for image_id in study.masked_images("train"):
        codes |= set(study.painted_pixels(image_id))
    return {item.name for item in study.classes("mask") if item.code in codes}
