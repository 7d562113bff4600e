"""What one wants to label: it decides the method, the layers and the panels. Knows no Qt and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_mtssl.study import Study

CELL, BLOCK, MASK, ORIGIN = "cell", "block", "mask", "origin"
REGION = "region"  # a tool, not a kind of classes: regions have those of blocks


@dataclass(frozen=True)
class Task:
    """One thing to label.

    Attributes
    ----------
    name : str
    title, text : str
        For the list from which the user chooses.
    method : str
        Name of the method that learns it.
    kinds : tuple of str
        Kinds of classes it has from the start; heads of whole images that the user adds come on top.
    heads : bool
        Whether whole images get classes.
    explains : bool
        Whether the method can say where in an image it sees a class.
    noun : str
        What its training samples are, in the plural.
    """

    name: str
    title: str
    text: str
    method: str
    kinds: tuple[str, ...]
    heads: bool = False
    explains: bool = False
    noun: str = "images"


CELLS = Task(
    "cells",
    "Cells",
    "Click cells; a network finds and classifies all of them",
    "hydramix",
    (CELL,),
    noun="places",
)
TISSUE = Task(
    "tissue",
    "Tissue",
    "Give blocks a coarse class; a network draws the exact outlines",
    "superres",
    (BLOCK, MASK),
    noun="blocks",
)
LUNGS = Task(
    "lungs",
    "Lungs",
    "Lungs, or any whole image: paint some masks, give some images a class; one network learns both",
    "multimix",
    (MASK, "diagnosis"),
    heads=True,
    explains=True,
)
SPECIMENS = Task(
    "specimens",
    "Specimens",
    "HEp-2, or any whole image: a mask and several classes for each, their losses balanced",
    "joint-unet",
    (MASK, "pattern", "intensity"),
    heads=True,
)
TASKS = (CELLS, TISSUE, LUNGS, SPECIMENS)


def task_named(name: str) -> Task:
    """Return the task of a name."""
    return next(task for task in TASKS if task.name == name)


def task_of(study: Study) -> Task:
    """Guess from a study's classes what is labelled in it."""
    kinds = study.kinds()
    heads = [kind for kind in kinds if kind not in (CELL, BLOCK, MASK, ORIGIN)]
    if BLOCK in kinds:
        return TISSUE
    if set(heads) & {"pattern", "intensity"}:
        return SPECIMENS
    if heads:  # a method that was used before tells; else several questions are one of specimens
        used = [task for run in study.runs() for task in (LUNGS, SPECIMENS) if task.method == run.method]
        return used[-1] if used else LUNGS if len(heads) == 1 else SPECIMENS
    return LUNGS if MASK in kinds and len(study.classes(CELL)) < 2 else CELLS


def kinds_of(task: Task, study: Study | None) -> list[str]:
    """Kinds of classes that are labelled: those of the task, and other heads that the study has."""
    others: Sequence[str] = study.kinds() if study is not None and task.heads else ()
    heads = [kind for kind in others if kind not in (CELL, BLOCK, MASK)]
    usual = [kind for kind in task.kinds if kind in (CELL, BLOCK, MASK) or not heads]
    return [*usual, *heads]
