"""One training run of a study: the one door for the window, the command line and Python.

Light to import: torch comes with the first event, in the thread that asks for it.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import statistics
import traceback
from collections.abc import Generator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Event, Failed, Finished
from napari_mtssl.engine.options import TrainOptions

if TYPE_CHECKING:
    import torch

    from napari_mtssl.engine.peers import Alone
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.base import Method
    from napari_mtssl.study import Study

logger = logging.getLogger(__name__)


class TrainingSession:
    """Train on a study and hear what happens.

    Parameters
    ----------
    study_path : path
        Folder ``NAME.mtssl``. The session opens its own connection, so the study may be edited meanwhile.
    method : str
        A registered method.
    preset : str
        One of the method's presets.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    overrides : mapping, optional
        Single settings of the method's configuration.
    run_name : str, optional
        Name of the new run; by default the method's name and a number.
    resume : str, optional
        Go on with the run of this name, with its own method and settings; `overrides` may ask for more
        ``steps``.
    checkpoint0 : path, optional
        Begin with these weights instead of random ones.
    options : TrainOptions, optional
    control : Control, optional
        By default a new one.
    devices : int
        More than one: on so many graphics cards, or processes of the CPU, with Lightning Fabric. It starts
        the others by running the same program again for each; only the first writes and hears what to do.

    Examples
    --------
    >>> session = TrainingSession("tumour.mtssl", overrides={"steps": 500})  # doctest: +SKIP
    >>> for event in session.events():  # doctest: +SKIP
    ...     print(event)
    """

    def __init__(
        self,
        study_path: str | Path,
        method: str = "hydramix",
        preset: str = "robust",
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        resume: str | None = None,
        checkpoint0: str | Path | None = None,
        options: TrainOptions | None = None,
        control: Control | None = None,
        devices: int = 1,
    ) -> None:
        self.devices = devices
        self.study_path = Path(study_path)
        self.method_name = method
        self.preset = preset
        self.device = device
        self.overrides = dict(overrides or {})
        self.run_name = run_name
        self.resume = resume
        self.checkpoint0 = None if checkpoint0 is None else Path(checkpoint0)
        self.options = options or TrainOptions()
        self.control = control or Control()
        self._run_dir: Path | None = None

    @property
    def run_dir(self) -> Path | None:
        """Folder of the run; None until the first event has come, or if none could be made or begun."""
        return self._run_dir

    def events(self) -> Generator[Event, None, None]:
        """Train; the last event is `Finished` or `Failed`, nothing is raised for what goes wrong.

        Everything happens in the thread that iterates: the study's connection, torch, the steps.

        Yields
        ------
        Event
        """
        from napari_mtssl.engine.devices import training_threads
        from napari_mtssl.engine.failures import USER_ERRORS, explain, is_mendable
        from napari_mtssl.study import Study

        try:
            with (
                training_threads(self._threads()),
                Study.open(self.study_path) as study,
                closing(self._train(study)) as events,
            ):
                yield from events
        except Exception as error:
            if not isinstance(error, (*USER_ERRORS, OSError)):
                logger.exception("the training session failed")
            yield Failed(0, explain(error, self._run_dir), traceback.format_exc(), is_mendable(error))

    def _train(self, study: Study) -> Generator[Event, None, None]:
        """Train; when a class was renamed go on, with a method that knows it by its new name."""
        from napari_mtssl.engine.devices import pick_device
        from napari_mtssl.engine.peers import Alone
        from napari_mtssl.engine.source import ClassRenamedError
        from napari_mtssl.images import ImagePool

        images, resume = ImagePool(), self.resume
        device = pick_device(self.device)
        peers = Alone()
        if self.devices > 1:
            from napari_mtssl.engine.parallel import together

            peers = together(self.devices, device)
            device = peers.device
        while True:
            try:
                with closing(self._run(study, images, device, peers, resume)) as events:
                    yield from events
                return
            except ClassRenamedError:
                if peers.world > 1:  # one may go on before another has noticed
                    raise
                # without a step there are no weights to go on with, and no run either
                resume = None if self._run_dir is None else self._run_dir.name

    def _run(
        self, study: Study, images: ImagePool, device: torch.device, peers: Alone, resume: str | None
    ) -> Generator[Event, None, None]:
        """Make the method and its run, then train."""
        from napari_mtssl.engine.devices import free_memory
        from napari_mtssl.engine.preview import Previewer
        from napari_mtssl.engine.run_lock import alone_in
        from napari_mtssl.engine.source import ClassRenamedError, StudySource
        from napari_mtssl.engine.train import train
        from napari_mtssl.images.tissue import in_study

        if resume is None:
            method = self._new_method(study, device)
        else:
            method = self._resumed_method(study, resume, device)
        source = StudySource(method, study, images)
        previewer = None
        if self.options.preview_seconds > 0 and peers.world == 1:
            previewer = Previewer(
                method,
                lambda image_id: in_study(images(study.image(image_id)), study.path, image_id),
                seconds=self.options.preview_seconds,
            )
        if resume is not None:
            self._run_dir = study.run(resume).path
        else:  # last, so that a wrong setting leaves no empty run behind
            made = study.new_run(method.name, self.run_name).path if peers.rank == 0 else ""
            self._run_dir = Path(peers.told(str(made)))
        event: Event | None = None
        begun = True
        try:
            alone = alone_in(self._run_dir) if peers.rank == 0 else nullcontext()
            with (
                alone,
                closing(
                    train(
                        method,
                        source,
                        run_dir=self._run_dir,
                        control=self.control,
                        options=self.options,
                        previewer=previewer,
                        resume=resume is not None,
                        checkpoint0=self.checkpoint0,
                        notes=provenance(study),
                        peers=peers,
                    )
                ) as events,
            ):
                for event in events:
                    yield event
        except ClassRenamedError:
            begun = (self._run_dir / "last.safetensors").is_file()
            raise
        finally:
            # its labels or images let nothing begin, or it was stopped before the first step
            nothing = not begun or (isinstance(event, Finished) and event.step == 0)
            nothing = nothing or not (self._run_dir / "config.yaml").is_file()
            if resume is None and peers.rank == 0 and nothing:
                shutil.rmtree(self._run_dir, ignore_errors=True)
                self._run_dir = None
            if method.device.type != "cpu":
                free_memory(method.device)  # other programs may want the card now

    def _threads(self) -> int | None:
        """CPU threads: as asked for; of several processes each gets its share."""
        if self.options.threads is None and self.devices > 1:
            return max(1, (os.cpu_count() or 1) // self.devices)
        return self.options.threads

    def _new_method(self, study: Study, device: torch.device) -> Method:
        from napari_mtssl.engine.devices import seeded
        from napari_mtssl.methods import get_method

        cls = get_method(self.method_name)
        config = cls.configure(self.preset, **self.overrides)
        cls.check_labels(study, config)
        with seeded(config.seed, device):  # the first weights
            return cls(config, cls.vocabulary_of(study), device)

    def _resumed_method(self, study: Study, name: str, device: torch.device) -> Method:
        from napari_mtssl.engine import checkpoint as ckpt

        saved = ckpt.load(ckpt.find(study.run(name).path, "last"))
        return ckpt.build_method(saved, device, **self.overrides)


def provenance(study: Study) -> dict[str, Any]:
    """Tell what a checkpoint keeps of its study: name, checksums, the pixel size all images share.

    And how large they usually are, if all tell their pixel size.

    Returns
    -------
    dict
        JSON types.
    """
    from napari_mtssl import __version__

    images = study.images("train")
    sizes = {image.pixel_size_um for image in images}
    extents = [
        image.pixel_size_um * math.sqrt(image.height * image.width) for image in images if image.pixel_size_um
    ]
    return {
        "napari_mtssl": __version__,
        "study": study.name,
        "pixel_size_um": sizes.pop() if len(sizes) == 1 else None,
        "extent_um": statistics.median(extents) if len(extents) == len(images) and images else None,
        "images": {image.path.name: image.checksum for image in images},
    }
