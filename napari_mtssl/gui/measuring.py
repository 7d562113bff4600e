"""Areas of exact classes in what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from napari_mtssl.study import Study


def report(study: Study, heads: Sequence[str]) -> pd.DataFrame:
    """One line for each image: classes given and predicted, and the predicted area of each exact class."""
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
        found = study.mask_prediction(image.id)
        if found is not None:
            best = found.read()
            known, best = best.max(0) > 0, best.argmax(0)
            element = found.scale[0] * found.scale[1]
            for at, name in enumerate(found.classes):
                pixels = float(((best == at) & known).sum()) * element
                row[f"{name}_pixels"] = round(pixels)
                if image.pixel_size_um:
                    row[f"{name}_mm2"] = pixels * image.pixel_size_um**2 / 1e6
        rows.append(row)
    return pd.DataFrame(rows)


def area_lines(pixels: Mapping[str, int], pixel_size_um: float | None) -> list[tuple[str, str, str]]:
    """Write areas: class, area in mm2 (in pixels where their size is unknown), per cent of the whole."""
    total = max(sum(pixels.values()), 1)
    lines = []
    for name, count in pixels.items():
        area = f"{count * pixel_size_um**2 / 1e6:.4g} mm²" if pixel_size_um else f"{count:,} px"
        lines.append((name, area, f"{100 * count / total:.1f} %"))
    return lines
