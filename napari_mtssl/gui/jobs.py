"""What runs in the threads: training, rounds of live training, and prediction of whole images. Knows no Qt.

Every job is an object whose `events` is iterated in its thread and whose `control` asks it to pause or end.
New predictions are written to the study here, through a connection of this thread, so that the window never
waits.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Event, Failed, Finished, Preview, Started
from napari_mtssl.gui.stored import keep, mask_classes_of, of_today

if TYPE_CHECKING:
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.methods.base import Method
    from napari_mtssl.study import Study

LOOK_SECONDS = 0.2
LEAST_BETWEEN = 20  # steps between two looks at held-out images


@dataclass(frozen=True)
class Waiting(Event):
    """Live training is up to date and waits for new or corrected labels."""

    kind = "waiting"


@dataclass(frozen=True)
class LabelsGone(Event):
    """A run in live mode waits, for its labels are not enough (any more)."""

    kind = "labels_gone"
    message: str


@dataclass(frozen=True)
class NotExplained(Event):
    """Where a class is seen cannot be shown; training is not concerned."""

    kind = "not_explained"
    message: str


@dataclass(frozen=True)
class FoldsScored(Event):
    """Cross-validation has done `done` of `total` trainings.

    Attributes
    ----------
    at : str
        Which one is at work; empty if none is.
    at_step, at_steps : int
        How far it is.
    scores : mapping of str to (mean, sd)
        Over the folds that are done, with the settings shown.
    others : mapping of str to such a mapping
        With other balances of the tasks, by their names in words.
    report : Path or None
        Of the tables and pictures, once they are written: of all folds that are done.
    """

    kind = "folds_scored"
    done: int
    total: int
    at: str
    at_step: int
    at_steps: int
    scores: Mapping[str, tuple[float, float]]
    others: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    report: Path | None = None


@dataclass(frozen=True)
class FoldsRequest:
    """What the button of the cross-validation asks for.

    Attributes
    ----------
    study_path : Path
    folds : int
    preset, device : str
    overrides : mapping
        Settings that differ from the preset's.
    validate : bool
        Choose the weights of each network on a fifth of the patients, held out of training.
    compare : bool
        Also equal and tuned weights of the tasks, and a network for each task.
    runner : str
        ``thread``, ``process`` or the address of a Dask cluster.
    """

    study_path: Path
    folds: int = 5
    preset: str = "robust"
    device: str = "auto"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    validate: bool = True
    compare: bool = False
    runner: str = "thread"


@dataclass(frozen=True)
class TrainRequest:
    """What the Train panel asks for.

    Attributes
    ----------
    study_path : Path
    method, preset, device : str
    overrides : mapping
        Settings that differ from the preset's.
    resume : str or None
        Name of the run to go on with; None for a new network.
    steps : int
        Steps to do now, on top of those a resumed run has done.
    live : bool
        Go on whenever labels change, until stopped; otherwise update once and predict the image.
    runner : str
        ``thread``, ``process`` or the address of a Dask cluster.
    """

    study_path: Path
    method: str = "hydramix"
    preset: str = "robust"
    device: str = "auto"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    resume: str | None = None
    steps: int = 1500
    live: bool = True
    runner: str = "thread"


class TrainJob:
    """Train; when done predict the image on screen; in live mode go on when labels change."""

    def __init__(self, request: TrainRequest, options: TrainOptions) -> None:
        self.request = request
        self.options = options
        self.control = Control()
        self._run_dir: Path | None = None

    def events(self) -> Iterator[Event]:
        """Iterate in the thread; ends after `Finished` or `Failed`, in live mode when stopped."""
        from napari_mtssl.study import Study

        request, resume, steps = self.request, self.request.resume, self.request.steps
        with Study.open(request.study_path) as study:
            if resume is not None:
                steps += done_steps(study, resume)
            while True:
                ended: Event | None = None
                for event in self._round(study, resume, steps):
                    ended = event
                    if not self._may_go_on(ended):
                        yield event
                known, asks, seen = study.labels_mark(), self.control.asks, self.control.viewport
                done = set() if seen is None else {seen[0]}
                if isinstance(ended, Failed) and self._may_go_on(ended):
                    yield LabelsGone(ended.step, f"{ended.reason} Training waits for that.")
                elif not isinstance(ended, Finished) or ended.stopped or self.control.stopped:
                    return
                else:
                    yield from self._predict(study, ended.run_dir, ended.step)
                    if not request.live:
                        return
                    yield Waiting(ended.step)
                    # A round of what is new is shorter than the first: the network knows most of it already.
                    steps = ended.step + max(request.steps // 3, 1)
                assert self._run_dir is not None
                yield from self._wait(study, self._run_dir, ended.step, known, asks, done)
                if self.control.stopped:
                    return
                resume = self._run_dir.name

    def _may_go_on(self, ended: Event) -> bool:
        """Whether a run that found no labels (any more) can go on with its weights once there are some."""
        if not (isinstance(ended, Failed) and ended.labels and self.request.live):
            return False
        return self._run_dir is not None and (self._run_dir / "last.safetensors").is_file()

    def _wait(
        self, study: Study, run_dir: Path, step: int, known: Hashable, asks: int, done: set[int]
    ) -> Iterator[Event]:
        """Until labels change or a stop: show what is asked for, predict images that the user turns to.

        `known` are the labels and `asks` the count of what was taken in, `done` are predicted images.
        """
        from napari_mtssl.images import is_slide

        counter = -1
        while not self.control.stopped:
            before, counter = counter, study.change_counter()
            if counter != before and study.labels_mark() != known:
                break  # of other edits, as of a colour, nothing is to be learnt
            asked = self.control.asks  # before what was asked for, which is set first
            sight, view = self.control.sight, self.control.viewport
            if view is not None and view[0] not in done:
                done.add(view[0])
                record = next((image for image in study.images() if image.id == view[0]), None)
                # a slide takes long: it is for the button; and an image may have been taken out
                if record is not None and not is_slide(record.height, record.width):
                    yield from self._predict(study, run_dir, step)
            if asked != asks and sight is not None and view is not None:
                asks = asked
                target = Target(run_dir.name, view[0], None, self.request.device)
                yield _explained_or_why_not(study, target, *sight)
            time.sleep(LOOK_SECONDS)

    def _round(self, study: Study, resume: str | None, steps: int) -> Iterator[Event]:
        from napari_mtssl.engine.runners_training import RunnerSession

        request = self.request
        # a short run has a curve of held-out scores, too
        often = min(self.options.validate_every, max(request.steps // 8, LEAST_BETWEEN))
        session = RunnerSession(
            request.runner,
            request.study_path,
            request.method,
            request.preset,
            request.device,
            {"steps": steps} if resume is not None else {**request.overrides, "steps": steps},
            resume=resume,
            options=replace(self.options, validate_every=often),
            control=self.control,
        )
        masks: Sequence[str] = ()
        with closing(session.events()) as events:
            for event in events:
                self._run_dir = session.run_dir
                if isinstance(event, Started):
                    masks = mask_classes_of(session.run_dir)
                if isinstance(event, Preview):
                    keep(study, session.run_dir.name, masks, event)
                    event = of_today(study, masks, event)
                yield event

    def _predict(self, study: Study, run_dir: Path, step: int) -> Iterator[Event]:
        """Predict the image on screen with what was just learnt."""
        if self.control.viewport is not None:
            image_id, view = self.control.viewport
            request = self.request
            what = Target(run_dir.name, image_id, view, request.device, self.options.threads, request.runner)
            yield from predict(study, [what], self.control, step)


@dataclass(frozen=True)
class Target:
    """What to predict, and with what.

    Attributes
    ----------
    run : str
    image_id : int
    view : tuple or None
        ``(row0, col0, row1, col1)`` that the user sees.
    device : str
    threads : int or None
    runner : str
        ``thread``, ``process`` or the address of a Dask cluster.
    """

    run: str
    image_id: int
    view: tuple[int, int, int, int] | None
    device: str = "auto"
    threads: int | None = None
    runner: str = "thread"


class PredictJob:
    """Predict images with an existing run, of the first one the visible part first."""

    def __init__(self, study_path: Path, *targets: Target) -> None:
        self.study_path, self.targets = study_path, targets
        self.control = Control()

    def events(self) -> Iterator[Event]:
        """Iterate in the thread: one `Preview` for each tile."""
        from napari_mtssl.study import Study

        with Study.open(self.study_path) as study:
            yield from predict(study, self.targets, self.control)


class ExplainJob:
    """Show where in an image a run sees a class; one `Preview` with a picture, which is not kept.

    Parameters
    ----------
    study_path : Path
    target : Target
    kind, name : str
        Head and class.
    how : str
        One of the method's ways.
    """

    def __init__(self, study_path: Path, target: Target, kind: str, name: str, how: str) -> None:
        self.study_path, self.target = study_path, target
        self.kind, self.name, self.how = kind, name, how
        self.control = Control()

    def events(self) -> Iterator[Event]:
        """Iterate in the thread."""
        from napari_mtssl.engine.devices import training_threads
        from napari_mtssl.study import Study

        with Study.open(self.study_path) as study, training_threads(self.target.threads):
            yield explained(study, self.target, self.kind, self.name, self.how)


def explained(study: Study, target: Target, kind: str, name: str, how: str) -> Preview:
    """Show where in an image a run sees a class; nothing else of the image is told anew."""
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.base import MethodError
    from napari_mtssl.methods.prediction import Prediction

    method = loaded(study, target)
    if not hasattr(method, "explain"):
        raise MethodError(f"The method {method.name} does not say where it sees a class.")
    record = study.image(target.image_id)
    picture = method.explain(ImagePool()(record), kind, name, how)
    scale = (record.height / picture.shape[0], record.width / picture.shape[1])
    said = Prediction(pictures={"saliency": picture})
    return Preview(0, record.id, (0, 0, record.height, record.width), said, scale, 1, 1)


def _explained_or_why_not(study: Study, target: Target, *sight: str) -> Preview | NotExplained:
    """Do not end a training that waits for labels because of a class that it does not know."""
    from napari_mtssl.methods.base import MethodError

    try:
        return explained(study, target, *sight)
    except MethodError as error:
        return NotExplained(0, str(error))


class FoldsJob:
    """Cross-validate the specimens of a study by patient; folds that are done are not done again."""

    def __init__(self, request: FoldsRequest) -> None:
        self.request = request
        self.control = Control()

    def events(self) -> Iterator[Event]:
        """Iterate in the thread: `FoldsScored` as it goes on."""
        from napari_mtssl.evaluation.study_folds import cross_validate, plan_of
        from napari_mtssl.study import Study

        asked = self.request
        with Study.open(asked.study_path) as study:
            plan, rows = plan_of(
                study,
                asked.folds,
                asked.preset,
                asked.overrides,
                asked.device,
                validate=asked.validate,
                compare=asked.compare,
            )
        cluster = None if asked.runner == "thread" else asked.runner
        with closing(cross_validate(plan, rows, lambda: self.control.stopped, cluster)) as found:
            for now in found:
                report = plan.folder / "report.md" if now.report else None
                where = (now.done, now.total, now.at, now.step, now.steps)
                yield FoldsScored(0, *where, now.scores, now.others, report)


def loaded(study: Study, target: Target) -> Method:
    """Load the network of a run."""
    from napari_mtssl.engine.checkpoint import load_method

    return load_method(study.run(target.run).path, device=target.device)


def predict(study: Study, targets: Sequence[Target], control: Control, step: int = 0) -> Iterator[Event]:
    """Predict images with one run until stopped; a tile is in the study before it is yielded."""
    from napari_mtssl.engine.predictor import Predictor
    from napari_mtssl.images import ImageError, ImagePool
    from napari_mtssl.images.tissue import in_study
    from napari_mtssl.study.records import plural

    unread: list[str] = []
    first, images = targets[0], ImagePool()
    run_dir = study.run(first.run).path
    with Predictor(
        run_dir,
        first.runner,
        first.device,
        first.threads,
        lambda: control.stopped,
        sight=lambda: control.sight,
    ) as predictor:
        for target in targets:
            if control.stopped:
                return
            if target.image_id not in {record.id for record in study.images()}:
                continue  # it was taken out of the study meanwhile
            try:
                image = in_study(images(study.image(target.image_id)), study.path, target.image_id)
                image.read(0, 0, 1, 1)
            except ImageError as error:
                unread.append(str(error))
                continue
            name = f"{target.image_id}.prediction"
            for other in study.runs():
                if other.path != run_dir:  # the study keeps one run's predictions of an image: these are gone
                    shutil.rmtree(other.path / "slides" / name, ignore_errors=True)
            masks = predictor.method.vocabulary.get("mask", ())
            for event in predictor.previews(
                image,
                target.image_id,
                run_dir / "slides" / name,
                partial(keep, study, target.run, masks),
                view=partial(_seen, control, target),
                step=step,
            ):
                yield of_today(study, masks, event)
    if unread:
        others = len(targets) - len(unread)
        raise ImageError(" ".join(unread) + (f" Predicted: {plural(others, 'image')}." if others else ""))


def _seen(control: Control, target: Target) -> tuple[int, int, int, int] | None:
    """Tell what the user sees of an image; what was seen at first if another one is on screen now."""
    if control.viewport is not None and control.viewport[0] == target.image_id:
        return control.viewport[1]
    return target.view


def done_steps(study: Study, run: str) -> int:
    """Count the steps that a run has done."""
    from napari_mtssl.engine import checkpoint

    return checkpoint.load(checkpoint.find(study.run(run).path, "last")).step
