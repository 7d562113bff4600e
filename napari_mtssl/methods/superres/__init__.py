"""Label super-resolution: exact outlines from coarse blocks."""

from napari_mtssl.methods.superres.bank import BlockBank, Field
from napari_mtssl.methods.superres.config import SuperResConfig
from napari_mtssl.methods.superres.method import SuperRes

__all__ = ["BlockBank", "Field", "SuperRes", "SuperResConfig"]
