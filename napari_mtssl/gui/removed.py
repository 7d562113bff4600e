"""What is said when the user takes one of the plugin's layers out of the viewer."""

from __future__ import annotations

from napari_mtssl.gui.layers import LABELS, PREDICTIONS, PSEUDO
from napari_mtssl.gui.rasters import BLOCKS, PAINT, PREDICTED
from napari_mtssl.gui.regions import REGIONS
from napari_mtssl.gui.ring import FOCUS

BACK = "'Show layers' (step 2) brings the layer back."
REMOVED = {
    LABELS: "Your labels are safe in the study.",
    PREDICTIONS: "The predictions are kept in the study.",
    PSEUDO: "The pseudo-labels will not be shown.",
    "image": "The image is still part of the study.",
    BLOCKS: "Your blocks are safe in the study.",
    REGIONS: "Your regions are safe in the study.",
    PAINT: "What you painted is safe in the study.",
    PREDICTED: "The predicted mask is kept in the study.",
    FOCUS: "No ring will be around the prediction in focus.",
}
