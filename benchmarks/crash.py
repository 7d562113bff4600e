"""Kill the program while it clicks and trains, open its study again, and count what is missing.

In each round a new process opens the same study. One thread of it clicks (adds, corrects, moves, deletes,
undoes) and says so through a pipe when a call has returned; another trains a small HydraMix-Net on it, and
writes checkpoints and predictions. At a random moment the process gets SIGKILL. Then the study is opened and
compared with all that was ever acknowledged, and the weights of the killed run are loaded.

    python benchmarks/crash.py --json crash.json --rounds 50
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import imageio.v3
import numpy as np

from napari_mtssl.engine import checkpoint
from napari_mtssl.engine.events import CheckpointWritten, Failed, Preview, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.evaluation.synthetic import cell_field
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import Study, StudyError

SIDE = 192  # pixels of each image
SMALL = {"depth": 10, "widen": 1, "window": 24, "patch": 33, "batch_size": 4, "steps": 1_000_000}
CLICK_SECONDS = 0.02  # between two clicks, on average: faster than any hand
FEWEST = 150  # cells, below which none is deleted: there must be something to train on
EARLY = 0.25  # share of the rounds that are killed while the program still starts
LONGEST = 180.0  # seconds until a round without a training step is given up


# -- the process that is killed ----------------------------------------------------------------------


def victim(path: str, resume: str | None, seed: int, pipe: Connection) -> None:
    """Click and train until killed."""
    one_at_a_time = threading.Lock()

    def tell(*message: object) -> None:
        with one_at_a_time:
            pipe.send(message)

    threading.Thread(target=_train, args=(path, resume, tell), daemon=True).start()
    _click(path, np.random.default_rng(seed), tell)


def _click(path, rng, tell) -> None:
    """Announce each click, make it, acknowledge it."""
    mine = 0  # edits of this process that an undo can take back
    with Study.open(path) as study:
        images = [image.id for image in study.images("train")]
        names = [c.name for c in study.classes()]
        while True:
            ids = study.cells()["id"].to_numpy()
            act = str(rng.choice(["add", "add", "add", "class", "move", "delete"] + ["undo"] * (mine > 0)))
            act = "add" if act == "delete" and len(ids) < FEWEST else act
            cell, image, name = int(rng.choice(ids)), int(rng.choice(images)), str(rng.choice(names))
            row, col = rng.uniform(0, SIDE - 1, 2).tolist()
            before = study.change_counter()
            tell("begun", act, cell, (row, col, name))
            match act:
                case "add":
                    cell = study.add_cell(image, row, col, name)
                case "class":
                    study.set_class(cell, name)
                case "move":
                    study.move_cell(cell, row, col)
                case "delete":
                    study.delete_cells(cell)
                case "undo":
                    study.undo()
            tell("done", act, cell, (row, col, name))
            mine += -1 if act == "undo" else study.change_counter() > before
            time.sleep(rng.exponential(CLICK_SECONDS))


def _train(path, resume, tell) -> None:
    """Train as the window does: look at an image, and keep what is predicted there."""
    options = TrainOptions(validate_every=6, checkpoint_every=2, preview_seconds=1.0, threads=1)
    overrides = None if resume else SMALL
    session = TrainingSession(
        path, preset="paper", device="cpu", resume=resume, overrides=overrides, options=options
    )
    with Study.open(path) as study:
        session.control.viewport = (study.images("train")[0].id, (0, 0, SIDE, SIDE))
        for event in session.events():
            if isinstance(event, Stepped):
                tell("step", session.run_dir.name)
            elif isinstance(event, CheckpointWritten):
                tell("checkpoint", session.run_dir.name)
            elif isinstance(event, Preview):
                study.set_predictions(event.image_id, session.run_dir.name, event.prediction.cells, event.box)
            elif isinstance(event, Failed):
                tell("failed", f"{event.reason}\n{event.detail}")


# -- the process that kills and looks ----------------------------------------------------------------


class Ledger:
    """Everything that was acknowledged: what each cell must be, and what an undo takes back."""

    def __init__(self, cells: dict[int, tuple]) -> None:
        self.cells = cells
        self.in_flight: tuple | None = None
        self.undoable: list[tuple] = []  # (id, what the cell was; None: it was not there)
        self.clicks = 0

    def hear(self, kind: str, *click) -> None:
        """Take in a message of the clicking thread."""
        if kind == "begun":
            self.in_flight = click
            return
        self.in_flight = None
        self.clicks += 1
        _apply(self.cells, self.undoable, *click)

    def missing(self, found: dict[int, tuple]) -> int:
        """Count cells that are not as acknowledged; the click in flight may have happened or not."""
        possible = [self.cells]
        if self.in_flight is not None:
            act, cell, place = self.in_flight
            after = dict(self.cells)
            _apply(after, list(self.undoable), act, max(found) if act == "add" else cell, place)
            possible.append(after)
        lost = min(sum(found.get(i) != want.get(i) for i in found.keys() | want.keys()) for want in possible)
        self.cells, self.in_flight, self.undoable = found, None, []
        return lost


def _apply(cells: dict[int, tuple], undoable: list[tuple], act: str, cell: int, place: tuple) -> None:
    """Do to the ledger what a click does to the study."""
    before = cells.get(cell)
    match act:
        case "undo":
            cell, after = undoable.pop()
        case "add":
            after = place
        case "class":
            after = (*before[:2], place[2])
        case "move":
            after = (*place[:2], before[2])
        case "delete":
            after = None
    if act != "undo":
        if after == before:  # no edit
            return
        undoable.append((cell, before))
    cells.pop(cell, None)
    if after is not None:
        cells[cell] = after


def read(study: Study) -> dict[int, tuple]:
    frame = study.cells()
    places = frame[["row", "col", "class"]].itertuples(index=False, name=None)
    return dict(zip(frame["id"].tolist(), places, strict=True))


def make_study(folder: Path) -> Path:
    """Make a study of three synthetic images, with some of the cells and some background clicked."""
    with Study.create(folder / "crash") as study:
        for seed, split in enumerate(("train", "train", "validation")):
            made = cell_field(SIDE, SIDE, seed=seed)
            path = folder / f"field{seed}.png"
            imageio.v3.imwrite(path, made.image)
            image = study.add_image(path, height=SIDE, width=SIDE, split=split)
            for name in sorted(set(made.cells["class"]) - {c.name for c in study.classes()}):
                study.add_class(name)
            study.add_cells(made.cells[:60].assign(image_id=image.id))
            for row, col in np.random.default_rng(seed).uniform(0, SIDE - 1, (20, 2)):
                study.add_cell(image.id, row, col, "background")
        return study.path


def one_round(context, path: Path, ledger: Ledger, resume: str | None, seed: int) -> dict[str, int]:
    """Let a process work, kill it, and take in all it said. Returns how often it said what, and its run."""
    rng = random.Random(seed)
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=victim, args=(str(path), resume, seed, its))
    process.start()
    its.close()
    early = rng.random() < EARLY
    end = threading.Timer(rng.uniform(0, 2) if early else LONGEST, process.kill)
    end.start()
    said: dict = {"step": 0, "checkpoint": 0, "run": None}
    while True:
        try:
            kind, *message = mine.recv()
        except (EOFError, OSError):  # killed between two messages, or within one
            break
        if kind in ("begun", "done"):
            ledger.hear(kind, *message)
        elif kind == "failed":
            end.cancel()
            process.kill()
            raise SystemExit(f"Training failed, so nothing was measured: {message[0]}")
        else:
            said["run"] = message[0]
            said[kind] += 1
            if kind == "step" and said["step"] == 1 and not early:
                end.cancel()
                end = threading.Timer(rng.expovariate(1 / 3), process.kill)
                end.start()
    end.cancel()
    process.join()
    return said


def weights_load(run: Path) -> bool:
    """Whether the last weights of a run, and the optimiser's state with them, can be read and used."""
    try:
        last = checkpoint.load(checkpoint.find(run, "last"))
        last.optimiser_state()
        checkpoint.load_method(run, "last", device="cpu")
    except MethodError as error:
        print(f"  {run.name}: {error}")
        return False
    return True


def measure(rounds: int, seed: int, folder: Path) -> dict[str, float]:
    path = make_study(folder)
    with Study.open(path) as study:
        ledger = Ledger(read(study))
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":  # torch is imported once, not in every round
        context.set_forkserver_preload(
            ["torch", "napari_mtssl.engine.train", "napari_mtssl.methods.hydramix"]
        )
    out = dict.fromkeys(
        ("clicks_lost", "studies_unreadable", "checkpoints_unreadable", "checkpoints_loaded"), 0
    )
    out |= dict.fromkeys(("rounds_killed_in_training", "runs_resumed", "checkpoints_written"), 0)
    rng, resumable, start = random.Random(seed), None, time.perf_counter()
    for number in range(rounds):
        resume = resumable if rng.random() < 0.5 else None
        said = one_round(context, path, ledger, resume, seed + number)
        out["rounds_killed_in_training"] += said["step"] > 0
        out["runs_resumed"] += resume is not None
        out["checkpoints_written"] += said["checkpoint"]
        try:
            with Study.open(path) as study:
                lost = ledger.missing(read(study))
                runs = study.runs()
        except StudyError as error:
            out["studies_unreadable"] += 1
            print(f"  round {number}: {error}")
            break
        out["clicks_lost"] += lost
        if said["checkpoint"]:
            loads = weights_load(path / "runs" / said["run"])
            out["checkpoints_loaded" if loads else "checkpoints_unreadable"] += 1
            resumable = said["run"] if loads else resumable
        print(
            f"round {number + 1}: {ledger.clicks} clicks, {lost} lost, {len(runs)} runs, {said}", flush=True
        )
    return {**out, "rounds": number + 1, "clicks": ledger.clicks, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=50, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtssl-crash-") as folder:
        figures = measure(options.rounds, options.seed, Path(folder))
    text = json.dumps(figures, indent=2)
    options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
