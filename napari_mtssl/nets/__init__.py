"""Networks, one file each. They know neither images nor studies."""

from napari_mtssl.nets.heads import CentroidHead, ClassificationHead
from napari_mtssl.nets.hydra import HydraNet, for_inference, frozen_statistics, turned
from napari_mtssl.nets.wide_resnet import WideResNet

__all__ = [
    "CentroidHead",
    "ClassificationHead",
    "HydraNet",
    "WideResNet",
    "for_inference",
    "frozen_statistics",
    "turned",
]
