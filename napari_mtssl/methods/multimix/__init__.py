"""MultiMix: masks and classes of whole images, from a handful of labels of each."""

from napari_mtssl.methods.multimix.config import MultiMixConfig
from napari_mtssl.methods.multimix.method import MultiMix
from napari_mtssl.methods.multimix.samples import FieldBank

__all__ = ["FieldBank", "MultiMix", "MultiMixConfig"]
