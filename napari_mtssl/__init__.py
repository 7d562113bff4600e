"""Semi-supervised multi-task learning for pathology images, in napari and without a window."""

__version__ = "0.1.0"
