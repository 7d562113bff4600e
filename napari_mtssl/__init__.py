"""Semi-supervised multi-task learning for pathology images, in napari and without a window."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_mtssl.engine.checkpoint import load_method as load_method
    from napari_mtssl.engine.dense import predict_image as predict_image
    from napari_mtssl.engine.session import TrainingSession as TrainingSession
    from napari_mtssl.images import open_image as open_image
    from napari_mtssl.study import Study as Study

__version__ = "0.1.0"

# Loaded when first asked for: importing the package costs nothing, and only what trains needs torch.
_HOME = {
    "Study": "napari_mtssl.study",
    "TrainingSession": "napari_mtssl.engine.session",
    "load_method": "napari_mtssl.engine.checkpoint",
    "open_image": "napari_mtssl.images",
    "predict_image": "napari_mtssl.engine.dense",
}

__all__ = ["Study", "TrainingSession", "__version__", "load_method", "open_image", "predict_image"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'napari_mtssl' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
