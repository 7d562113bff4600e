"""One training run, act by act: `train` is its door."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.engine.beginning import check_classes, start_from, write_config
from napari_mtssl.engine.control import Control
from napari_mtssl.engine.devices import free_memory, is_out_of_memory, seeded, step_seed
from napari_mtssl.engine.events import (
    CheckpointWritten,
    ClassesLeftOut,
    Event,
    Finished,
    LabelsChanged,
    LossNotFinite,
    OutOfMemory,
    Paused,
    PseudoLabels,
    Resumed,
    Started,
    Stepped,
    Validated,
)
from napari_mtssl.engine.interruption import StoppedError, interrupted_by
from napari_mtssl.engine.meter import LossMeter, SpeedMeter, all_finite
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.peers import Alone
from napari_mtssl.engine.preview import Previewer
from napari_mtssl.engine.snapshot import Snapshot
from napari_mtssl.engine.source import SampleSource
from napari_mtssl.learning.balance import task_losses
from napari_mtssl.methods.base import Method, MethodError, Samples, StepOutput

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
SNAPSHOT_STEPS = 50
SMALLEST_BATCH = 2
REPORT_STEPS = 10  # of several processes
PAUSE_SECONDS = 0.05  # between two looks at what the user sees
SAMPLING = -1  # the "step" whose seed samples are read with


class Loop:
    """State of one training run. `run` is the story; the other methods are its single acts."""

    def __init__(
        self,
        method: Method,
        source: SampleSource,
        run_dir: Path,
        control: Control,
        options: TrainOptions,
        previewer: Previewer | None,
        notes: Mapping[str, Any],
        peers: Alone | None = None,
    ) -> None:
        self.peers = peers or Alone()
        self.method, self.source, self.control, self.options = method, source, control, options
        self.run_dir, self.previewer, self.notes = run_dir, previewer, dict(notes)
        self.total_steps = method.config.steps
        self.step = 0
        self.batch_size = method.config.batch_size
        # times weights were restored after a NaN; each changes the random draws and halves the learning rate
        self.restarts = 0
        self.best: float | None = None
        self.scores: dict[str, float] = {}
        self.saved_step = -1
        self.losses, self.speed = LossMeter(), SpeedMeter()
        self.reported = self.pseudo_told = 0.0
        self.pseudo: dict[str, torch.Tensor] = {}
        self.left_out: tuple[str, ...] = ()
        self.held_out: Samples | None = None
        self.held_out_stale = True
        self.ready = False

    # -- beginning -----------------------------------------------------------------------------------------

    def begin(self, resume: bool, checkpoint0: Path | None) -> None:
        """Read samples, weights and settings: what can be wrong before the first step is wrong here."""
        self.optimiser = self.method.optimiser()
        rate = self.method.config.learning_rate
        self.rate_factors = [float(group["lr"]) / rate for group in self.optimiser.param_groups]
        if self.peers.rank == 0:
            ckpt.remove_leftovers(self.run_dir)
        if resume:
            self._resume(ckpt.load(ckpt.find(self.run_dir, "last")))
        elif checkpoint0 is not None:
            start_from(ckpt.load(checkpoint0), self.method)
        self.samples = self._read_samples()
        self.method.prepare(self.samples)
        self.peers.share(self.method)
        if self.peers.rank == 0:
            write_config(self.run_dir, self.method, self.notes)
        snapshot = Snapshot.take(self.step, self.method, self.optimiser)
        if snapshot is None:
            raise MethodError("The weights to start from are not finite; start a new run.")
        self.snapshot = snapshot
        self.ready = True

    def _resume(self, saved: ckpt.Checkpoint) -> None:
        check_classes(saved, self.method)
        self.method.load_state(saved.state)
        ckpt.restore_optimiser(self.optimiser, saved.optimiser_state())
        self.step = self.saved_step = saved.step
        if self.step >= self.total_steps:
            raise MethodError(
                f"The run '{self.run_dir.name}' already did its {self.step} steps; "
                "ask for more steps, or start a new run."
            )
        self.batch_size = saved.meta["batch_size"]
        self.restarts = saved.meta["restarts"]
        self.best, self.scores = saved.meta["best"], saved.meta["scores"]

    def _read_samples(self) -> Samples:
        with seeded(step_seed(self.method.config.seed, SAMPLING), self.method.device):
            samples = self.source.training()
        while not self.peers.same(samples.keys()):  # somebody labels while processes read one after another
            time.sleep(0.5)
            samples = self.source.training()
        return samples

    # -- the story -----------------------------------------------------------------------------------------

    def run(self) -> Generator[Event, None, None]:
        """Train to the end, or until told to stop."""
        yield Started(
            self.step,
            self.total_steps,
            str(self.method.device),
            self.samples.n_labelled,
            self.samples.n_unlabelled,
        )
        yield from self._tell_left_out()
        self.speed.restart()
        first = True
        while self.step < self.total_steps:
            stopped, paused, changed = self._asked()
            if stopped:
                break
            if paused:
                yield from self._pause()
                continue
            if changed:
                yield from self._take_in_labels()
            halved = self._guarded_step()
            if halved is not None:
                yield halved
                continue
            yield from self._after_step(first)
            first = False
        yield from self._finish()

    def _asked(self) -> tuple[bool, ...]:
        """Whether to stop, to pause, and to take in new labels; the same in all processes."""
        stopped, paused = self.control.stopped, self.control.paused
        changed = not (stopped or paused) and self.source.changed()
        return self.peers.agree(stopped, paused, changed)

    def _after_step(self, first: bool) -> Iterator[Event]:
        """Say and keep what is due after a step."""
        last = self.step == self.total_steps
        validate = last or self.step % self.options.validate_every == 0
        save = last or self.step % self.options.checkpoint_every == 0
        now = time.monotonic()
        # a report may undo steps: several processes do it at the same step, whatever their clocks say
        due = now - self.reported >= self.options.report_seconds
        due = due if self.peers.world == 1 else self.step % REPORT_STEPS == 0
        if first or validate or save or due:
            self.reported = now
            report = self._report(snapshot=validate or save)
            if report is not None:
                yield report
            if isinstance(report, LossNotFinite):
                return
        if self.pseudo and 0 < self.options.pseudo_seconds <= now - self.pseudo_told:
            self.pseudo_told = now
            frame = self.method.describe(self.samples, self.pseudo)
            if len(frame):
                yield PseudoLabels(self.step, frame)
        if validate:
            yield from self._validate()
        if save:
            yield self._save("last")
        yield from self._preview()

    def _preview(self) -> Iterator[Event]:
        """Predict a tile of what the user sees, if one is due."""
        if self.previewer is not None and self.step:
            preview = self.previewer.next_tile(self.step, self.control.viewport, self.control.sight)
            if preview is not None:
                yield preview

    def _finish(self) -> Iterator[Event]:
        yield from self._settle()
        yield Finished(self.step, self.step < self.total_steps, self.run_dir, dict(self.scores))

    def _settle(self) -> Iterator[Event]:
        """Leave the last weights on disk, good ones; before the first step there are none worth it."""
        if self.step and self.saved_step != self.step:
            report = self._report(snapshot=True)
            if report is not None:
                yield report
            yield self._save("last")

    def _pause(self) -> Iterator[Event]:
        yield from self._settle()
        yield Paused(self.step)
        while not self.control.wait_while_paused(PAUSE_SECONDS):
            yield from self._preview()  # what the user turns to meanwhile
        self.speed.restart()
        if not self.control.stopped:
            yield Resumed(self.step)

    # -- single acts ---------------------------------------------------------------------------------------

    def _guarded_step(self) -> OutOfMemory | None:
        """Do one step; if memory is not enough, halve the batch instead and say so."""
        try:
            self._one_step()
            return None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self.peers.world > 1:
                raise
        # outside of the handler, whose exception would keep the step's tensors alive
        self.optimiser.zero_grad(set_to_none=True)
        free_memory(self.method.device)
        old, self.batch_size = self.batch_size, self.batch_size // 2
        if self.batch_size < SMALLEST_BATCH:
            raise MethodError(
                f"Not even {old} samples at a time fit into the memory of {self.method.device}; "
                "choose a smaller network or another device, or close other programs."
            )
        message = (
            f"Memory was not enough for {old} samples at a time; training goes on with {self.batch_size}."
        )
        return OutOfMemory(self.step, old, self.batch_size, message)

    def _one_step(self) -> None:
        progress = self.step / self.total_steps
        seed = step_seed(self.method.config.seed, self.step, self.restarts)
        with seeded(seed, self.method.device), self.peers.step():
            output = self.method.step(self.samples, progress, self.batch_size)
            weights = balanced_weights(self.method, output)
            total = weighted_sum(output.losses, weights)
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()
        self.peers.add_gradients(list(self.method.network.parameters()))
        if self.method.balancer is not None:
            self.method.balancer.learn(self.method.shared)
        rate = self.method.learning_rate(progress) * 0.5**self.restarts
        for group, factor in zip(self.optimiser.param_groups, self.rate_factors, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * factor)  # a captured graph reads this tensor
            else:
                group["lr"] = rate * factor
        self.optimiser.step()
        self.method.after_step()
        self.losses.add(output.losses, weights, total)
        self.pseudo = output.pseudo
        self.step += 1
        self.speed.step()

    def _report(self, *, snapshot: bool) -> Stepped | LossNotFinite | None:
        """Read the losses off the device; what was not finite is undone here. None if no step was made."""
        means = self.losses.read()
        due = snapshot or self.step - self.snapshot.step >= SNAPSHOT_STEPS
        good = all_finite(means)
        if good and due and self.step != self.snapshot.step:
            taken = Snapshot.take(self.step, self.method, self.optimiser)
            good = taken is not None
            self.snapshot = taken or self.snapshot
        if not good:
            return self._go_back()
        if not means:
            return None
        speed, left = self.speed.read(self.total_steps - self.step)
        total = means.pop("total")
        weights = {name: float(weight) for name, weight in self.losses.weights.items()}
        balancer = self.method.balancer
        balance = {} if balancer is None else balancer.report()
        return Stepped(self.step, self.total_steps, means, weights, total, speed, left, balance)

    def _go_back(self) -> LossNotFinite:
        """Return to the last good weights."""
        self.restarts += 1
        if self.restarts >= MAX_RESTARTS:
            self.snapshot.restore(self.method, self.optimiser)
            self.step = self.snapshot.step
            raise MethodError(
                f"The loss was not a finite number {self.restarts} times; the weights of step {self.step} "
                f"are kept. Lower the learning rate ({self.method.config.learning_rate:g}) and start again."
            )
        noticed, self.step = self.step, self.snapshot.step
        self.snapshot.restore(self.method, self.optimiser)
        self.losses.reset()
        self.pseudo = {}
        self.speed.restart()
        message = (
            f"The loss was not a finite number before step {noticed}: training went back to "
            f"step {self.step}, with half the learning rate."
        )
        return LossNotFinite(noticed, self.step, message)

    def _take_in_labels(self) -> Iterator[Event]:
        """Use the labels as they are now, from the next step on."""
        before = self.samples.keys()
        self.samples = self._read_samples()
        self.method.prepare(self.samples)
        self.pseudo = {}
        self.held_out_stale = True
        after = self.samples.keys()
        added = len(after.keys() - before.keys())
        removed = len(before.keys() - after.keys())
        changed = sum(before[key] != after[key] for key in before.keys() & after.keys())
        self.speed.restart()
        if added or changed or removed:
            yield LabelsChanged(self.step, self.samples.n_labelled, added, changed, removed)
        yield from self._tell_left_out()

    def _tell_left_out(self) -> Iterator[Event]:
        """Say once of which classes no label counts."""
        fresh = tuple(name for name in self.source.left_out if name not in self.left_out)
        self.left_out = self.source.left_out
        if fresh:
            names = ", ".join(f"'{name}'" for name in fresh)
            what = f"The class {names}" if len(fresh) == 1 else f"The classes {names}"
            yield ClassesLeftOut(
                self.step,
                fresh,
                f"{what} had no label when this network was made, or only this one of its kind had: training "
                "goes on without these labels; label others, too, and start a new network to learn them.",
            )

    def _validate(self) -> Iterator[Event]:
        if self.held_out_stale:
            before, self.held_out = self.held_out, self.source.validation()
            self.held_out_stale = False
            if before is not None and self.held_out is not None and before.keys() != self.held_out.keys():
                self.best = None  # scores on other labels cannot be compared
        if self.held_out is None:
            return
        try:
            stopped = self.peers.world == 1  # or the others would wait for this one
            with interrupted_by(lambda: stopped and self.control.stopped, self.method.teacher):
                self.scores = self.method.evaluate(self.held_out)
        except StoppedError:
            return
        name, score = next(iter(self.scores.items()))
        height = -score if name.endswith("_px") else score  # distances are better when lower
        height = -math.inf if math.isnan(height) else height
        better = self.best is None or height > self.best
        if better:
            self.best = height
        yield Validated(self.step, dict(self.scores), better)
        if better:
            yield self._save("best")

    def _save(self, which: str) -> CheckpointWritten:
        progress = {
            "batch_size": self.batch_size,
            "restarts": self.restarts,
            "best": self.best,
            "scores": self.scores,
        }
        path = self.run_dir / f"{which}.safetensors"
        if self.peers.rank == 0:
            ckpt.save(
                self.run_dir,
                which,
                self.method,
                self.optimiser,
                self.step,
                progress=progress,
                notes=self.notes,
            )
        if which == "last":
            self.saved_step = self.step
        return CheckpointWritten(self.step, path, which)

    def keep(self) -> None:
        """Save the last weights when the run ends from outside: good ones, and if that is possible."""
        if not (self.ready and self.step) or self.saved_step == self.step:
            return
        try:
            taken = Snapshot.take(self.step, self.method, self.optimiser)
            if taken is None or not all_finite(self.losses.read()):
                self.snapshot.restore(self.method, self.optimiser)
                self.step = self.snapshot.step
            self._save("last")
        except OSError as error:
            logger.warning("the last weights could not be saved: %s", error)


def balanced_weights(method: Method, output: StepOutput) -> dict[str, float | torch.Tensor]:
    """Weight of each loss: the method's own, or what its balancer says of the loss's task."""
    weights: dict[str, float | torch.Tensor] = dict(output.weights)
    if method.balancer is None or not output.tasks:
        return weights
    totals, shares = task_losses(output.losses, output.weights, output.tasks)
    said = method.balancer.weigh(totals, method.shared)
    return weights | {name: share * said[output.tasks[name]] for name, share in shares.items()}


def weighted_sum(
    losses: Mapping[str, torch.Tensor], weights: Mapping[str, float | torch.Tensor]
) -> torch.Tensor:
    """Total loss of a step."""
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
