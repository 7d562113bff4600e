"""Any image file as one lazy pyramid with a pixel size.

Light to import: the libraries that decode a format are loaded when a file of that format is opened.
"""

from napari_mtssl.images.folders import image_files
from napari_mtssl.images.image import FlatImageError, Image, ImageError, Source, is_slide, to_float
from napari_mtssl.images.opening import SUFFIXES, is_image, open_image, register
from napari_mtssl.images.pool import ImagePool
from napari_mtssl.images.stacks import open_planes

__all__ = [
    "SUFFIXES",
    "FlatImageError",
    "Image",
    "ImageError",
    "ImagePool",
    "Source",
    "image_files",
    "is_image",
    "is_slide",
    "open_image",
    "open_planes",
    "register",
    "to_float",
]
