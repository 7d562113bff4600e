"""What people said about which images, and where it is kept. Knows neither torch nor Qt nor napari."""

from napari_mtssl.study.merge import ImportReport
from napari_mtssl.study.records import (
    BACKGROUND,
    CELL_COLUMNS,
    PREDICTION_COLUMNS,
    CellClass,
    ImageProblem,
    ImageRecord,
    Run,
    StudyError,
)
from napari_mtssl.study.study import Study

__all__ = [
    "BACKGROUND",
    "CELL_COLUMNS",
    "PREDICTION_COLUMNS",
    "CellClass",
    "ImageProblem",
    "ImageRecord",
    "ImportReport",
    "Run",
    "Study",
    "StudyError",
]
