"""What people said about which images, and where it is kept. Knows neither torch nor Qt nor napari."""

from napari_mtssl.study.merge import ImportReport
from napari_mtssl.study.rasters import LostRasterWarning, MaskPrediction
from napari_mtssl.study.records import (
    BACKGROUND,
    BLOCK,
    CELL,
    CELL_COLUMNS,
    IMAGE_CLASS_COLUMNS,
    MASK,
    ORIGIN,
    PREDICTION_COLUMNS,
    STATISTICS_COLUMNS,
    CellClass,
    Grid,
    ImageProblem,
    ImageRecord,
    MaskState,
    Run,
    StudyError,
)
from napari_mtssl.study.study import Study

__all__ = [
    "BACKGROUND",
    "BLOCK",
    "CELL",
    "CELL_COLUMNS",
    "IMAGE_CLASS_COLUMNS",
    "MASK",
    "ORIGIN",
    "PREDICTION_COLUMNS",
    "STATISTICS_COLUMNS",
    "CellClass",
    "Grid",
    "ImageProblem",
    "ImageRecord",
    "ImportReport",
    "LostRasterWarning",
    "MaskPrediction",
    "MaskState",
    "Run",
    "Study",
    "StudyError",
]
