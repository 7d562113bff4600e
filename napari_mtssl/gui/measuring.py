"""Areas of exact classes in what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study


def report(study: Study, heads: Sequence[str]) -> pd.DataFrame:
    """One line for each image: classes given and predicted, areas where a mask is complete or predicted."""
    from napari_mtssl.gui.image_table import image_table

    said = study.image_predictions()
    rows = []
    for line, image in zip(image_table(study, heads).itertuples(), study.images(), strict=True):
        row: dict[str, object] = {"image": image.path.name, "group": image.group, "split": image.split}
        given = study.image_classes(image.id)
        for kind in heads:
            name = given.loc[given["kind"] == kind, "class"]
            here = said[(said["image_id"] == image.id) & (said["kind"] == kind)]
            top = here.loc[[here["probability"].idxmax()]] if len(here) else here
            row[kind] = name.iloc[0] if len(name) else ""
            row[f"{kind}_predicted"] = top["class"].iloc[0] if len(top) else ""
            row[f"{kind}_probability"] = top["probability"].iloc[0] if len(top) else np.nan
        row["mask_painted"] = line.painted
        if study.mask_state(image.id).complete or study.mask_prediction(image.id) is not None:
            row |= _areas(study, image)
        rows.append(row)
    return pd.DataFrame(rows)


def _areas(study: Study, image: ImageRecord) -> dict[str, float]:
    """Areas in the mask that is exported: painted, else predicted."""
    from napari_mtssl.study.mask_pixels import mask_parts

    classes = study.classes("mask")
    counts = np.zeros(max(item.code for item in classes) + 1, np.int64)
    for _, _, codes in mask_parts(study, image.id, predictions=True):
        counts += np.bincount(codes.ravel(), minlength=len(counts))[: len(counts)]
    total = max(int(sum(counts[item.code] for item in classes)), 1)
    areas: dict[str, float] = {}
    for item in classes:
        areas[f"{item.name}_pixels"] = int(counts[item.code])
        areas[f"{item.name}_percent"] = 100 * counts[item.code] / total
        if image.pixel_size_um:
            areas[f"{item.name}_mm2"] = counts[item.code] * image.pixel_size_um**2 / 1e6
    return areas


def area_lines(pixels: Mapping[str, int], pixel_size_um: float | None) -> list[tuple[str, str, str]]:
    """Write areas: class, area in mm2 (in pixels where their size is unknown), per cent of the whole."""
    total = max(sum(pixels.values()), 1)
    lines = []
    for name, count in pixels.items():
        area = f"{count:,} px"
        if pixel_size_um:  # not 2.7e-05
            mm2 = count * pixel_size_um**2 / 1e6
            area = f"{np.format_float_positional(mm2, 4, fractional=False, trim='-')} mm²"
        lines.append((name, area, f"{100 * count / total:.1f} %"))
    return lines
