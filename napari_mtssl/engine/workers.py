"""What makes workers of a Dask cluster cheaper to keep and sooner back, for Dask's ``--preload-nanny``.

``dask worker ADDRESS --preload-nanny napari_mtssl.engine.workers``; without it everything works, too. Nothing
heavy is imported here, since the nanny, which starts workers and watches them, has no use for it.
"""

from __future__ import annotations

import multiprocessing
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from napari_mtssl.methods import GROUP

if TYPE_CHECKING:
    from distributed import Nanny

# Dask looks at each worker a hundred times a second and more, for pictures of its dashboard: 4 % of each
# core, and more from who computes beside it.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
LOOKS = {"tick": "distributed.admin.tick.interval", "monitor": "distributed.admin.system-monitor.interval"}
FORKED = "forkserver"
LOADED = ("torch", "napari_mtssl.engine.runners", "napari_mtssl.engine.slide_prediction")


def dask_setup(nanny: Nanny) -> None:
    """Prepare a nanny before its first worker starts; Dask calls it.

    A worker that is started again after its end has to load torch and more first, 4 s of a core. Where the
    system can do it, one process loads all that once, computes nothing, and workers are forked from it.
    """
    import dask
    from dask.utils import parse_timedelta

    settings: dict[str, object] = dict(QUIET)
    forks = FORKED in multiprocessing.get_all_start_methods()
    if forks:
        settings["distributed.worker.multiprocessing-method"] = FORKED
    # the nanny's own copy is what its workers get; the other is what it asks itself
    for config in (dask.config.config, nanny.config):
        dask.config.set(settings, config=config)
    for name, setting in LOOKS.items():  # a nanny looks at itself, too, and has read its settings already
        if name in nanny.periodic_callbacks:
            nanny.periodic_callbacks[name].callback_time = 1000 * parse_timedelta(QUIET[setting])
    if forks:
        from distributed.utils import get_mp_context

        get_mp_context()  # says what Dask wants loaded, once: ours must come after it
        methods = {point.module for point in entry_points(group=GROUP)}
        multiprocessing.get_context(FORKED).set_forkserver_preload(["distributed", *LOADED, *sorted(methods)])
