"""Slides are read in the background: napari's own setting, for as long as one is on screen, and not kept.

Without it the window waits for every tile that is decoded while one moves. A user who has decided about it
(napari's preferences, or ``NAPARI_ASYNC``) is left alone.
"""

from __future__ import annotations

import os

from napari.settings import get_settings

GROUP, NAME = "experimental", "async_"


def read_in_background(on: bool) -> None:
    """Have napari read layers in a thread of its own, or no longer.

    The setting is marked as one of this session, as napari marks those of environment variables: it is not
    written to the user's file.
    """
    settings = get_settings()
    decided = settings.config_file_settings.get(GROUP, {}).get(NAME) is not None
    if "NAPARI_ASYNC" in os.environ or decided or settings.experimental.async_ == on:
        return
    settings.env_settings.setdefault(GROUP, {})[NAME] = True
    settings.experimental.async_ = on
