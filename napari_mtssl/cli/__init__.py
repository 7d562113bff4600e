"""The command line: the same studies, training and predictions as the window, without one.

Heavy libraries are imported inside the commands, so that ``napari-mtssl --help`` answers at once.
"""

from napari_mtssl.cli.app import app, main

__all__ = ["app", "main"]
