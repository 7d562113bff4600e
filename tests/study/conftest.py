from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import ImageRecord, Study, schema


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path / "breast", annotator="ada") as made:
        yield made


@pytest.fixture
def image(study: Study, tmp_path: Path) -> ImageRecord:
    """An image of 200 rows and 300 columns, in a study with two classes."""
    study.add_class("tumour", "#ff0000")
    study.add_class("lymphocyte", "#00ff00")
    return add_image(study, tmp_path / "slide1.png")


def add_image(study: Study, path: Path, height: int = 200, width: int = 300, **kwargs) -> ImageRecord:
    path.write_bytes(b"pixels of " + path.name.encode())
    return study.add_image(path, height=height, width=width, **kwargs)


def many_cells(image_id: int, n: int, seed: int = 0, side: float = 199.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image_id": image_id,
            "row": rng.uniform(0, side, n),
            "col": rng.uniform(0, side, n),
            "class": rng.choice(["background", "tumour", "lymphocyte"], n),
        }
    )


def everything(study: Study) -> tuple:
    """All that people said, comparable."""
    cells = study.cells()
    return study.images(), study.classes(), [tuple(row) for row in cells.fillna(-1.0).itertuples(index=False)]


def all_rows(study: Study) -> dict[str, list[tuple]]:
    """Every row of every table that can be undone."""
    return {table: study._rows(f"SELECT * FROM {table} ORDER BY id") for table in schema.RECORDED}
