"""Classes to begin with: what usually is labelled of cells, tissue, lungs and specimens."""

from __future__ import annotations

from dataclasses import dataclass

from napari_mtssl.study.records import BLOCK, CELL, MASK, StudyError
from napari_mtssl.study.study import Study


@dataclass(frozen=True)
class Entry:
    """One class of a template: kind, name, description, and a colour if the next one will not do."""

    kind: str
    name: str
    note: str
    colour: str | None = None


@dataclass(frozen=True)
class Template:
    """Classes that a new study begins with.

    Attributes
    ----------
    title, text : str
        For the list from which the user chooses.
    classes : tuple of Entry
        In the order in which they are made; the background comes by itself.
    """

    title: str
    text: str
    classes: tuple[Entry, ...]


# The staining patterns of HEp-2 cells: name, the report's description, colour.
HEP2_PATTERNS = (
    (
        "homogeneous",
        "Diffuse staining of the interphase nuclei and staining of the chromatin of mitotic cells.",
        "#e6194b",
    ),
    ("speckled", "Granular nuclear staining of interphase cell nuclei.", "#3cb44b"),
    (
        "nucleolar",
        "Large coarse speckled staining within the nucleus, less than six in number per cell.",
        "#ffe119",
    ),
    (
        "centromere",
        (
            "Several discrete speckles (40-60) distributed throughout the interphase nuclei and "
            "characteristically found in the condensed nuclear chromatin."
        ),
        "#4363d8",
    ),
    (
        "golgi",
        (
            "Discontinuous speckled or granular perinuclear ribbon-like staining with polar distribution in "
            "the cytoplasm."
        ),
        "#f58231",
    ),
    (
        "numem",
        "Nuclear membrane: homogeneous staining of the nucleus with greater intensity at its outer rim.",
        "#911eb4",
    ),
    (
        "mitsp",
        "Mitotic spindle: the spindle fibers between the poles are stained in mitotic cells.",
        "#46f0f0",
    ),
)
HEP2_INTENSITIES = (
    ("intermediate", "Weak fluorescence."),
    ("positive", "Strong fluorescence."),
)

TEMPLATES = {
    "cells": Template(
        "Cells",
        "Epithelial and inflammatory cells, fibroblasts, others",
        (
            Entry(CELL, "epithelial", "Cells of the epithelium, sick or healthy."),
            Entry(CELL, "inflammatory", "Lymphocytes, granulocytes, plasma cells, macrophages."),
            Entry(CELL, "fibroblast", "Spindle-shaped cells of the connective tissue."),
            Entry(CELL, "others", "Cells that are none of these."),
        ),
    ),
    "tissue": Template(
        "Tissue",
        "Blocks by the share that glands have of them, in fifths; exact outlines of glands",
        (
            *(
                Entry(BLOCK, f"{low}-{low + 20}", f"{low} to {low + 20} % of the block are gland.")
                for low in range(0, 100, 20)
            ),
            Entry(MASK, "gland", "Inside a gland, its lumen included."),
        ),
    ),
    "lungs": Template(
        "Lungs",
        "Chest X-rays: the lungs as a mask; normal or pneumonia",
        (
            Entry(MASK, "lung", "Inside a lung, sick parts included.", "#46f0f0"),
            Entry("diagnosis", "normal", "Nothing to see."),
            Entry("diagnosis", "pneumonia", "An opacity in a lung."),
        ),
    ),
    "specimens": Template(
        "Specimens",
        "HEp-2: the cells as a mask; seven staining patterns with their descriptions; two intensities",
        (
            Entry(MASK, "cell", "Inside a cell's nucleus.", "#ff9ed8"),
            *(Entry("pattern", name, note, colour) for name, note, colour in HEP2_PATTERNS),
            *(Entry("intensity", name, note) for name, note in HEP2_INTENSITIES),
        ),
    ),
}


def use_template(study: Study, name: str) -> int:
    """Give a study the classes of a template, in one edit.

    Parameters
    ----------
    study : Study
    name : str
        One of `TEMPLATES`.

    Returns
    -------
    int
        How many classes were made: those that the study has already stay as they are.

    Raises
    ------
    StudyError
        If there is no such template, or the study cannot be written.
    """
    if name not in TEMPLATES:
        raise StudyError(f"There is no template '{name}'; choose one of: {', '.join(TEMPLATES)}.")
    template, made = TEMPLATES[name], 0
    with study.edit(f"Added the classes of the template {template.title}"):
        for entry in template.classes:
            if entry.name.lower() not in {known.name.lower() for known in study.classes(entry.kind)}:
                study.add_class(entry.name, entry.colour, kind=entry.kind, note=entry.note)
                made += 1
    return made
