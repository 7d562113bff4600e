"""HydraMix-Net: cells from few clicks and many unlabelled places."""

from napari_mtssl.methods.hydramix.config import HydraMixConfig
from napari_mtssl.methods.hydramix.method import HydraMix
from napari_mtssl.methods.hydramix.samples import PatchBank

__all__ = ["HydraMix", "HydraMixConfig", "PatchBank"]
