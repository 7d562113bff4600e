"""What makes a Dask cluster cheaper to keep and its workers sooner back, for Dask's ``--preload`` options.

``dask scheduler --preload napari_mtssl.engine.workers`` and ``dask worker ADDRESS --preload-nanny
napari_mtssl.engine.workers``; without them everything works, too. Nothing heavy is imported here, since the
scheduler and the nanny, which starts workers and watches them, have no use for it.
"""

from __future__ import annotations

import multiprocessing
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from napari_mtssl.methods import GROUP

if TYPE_CHECKING:
    from distributed import Nanny, Scheduler

# Dask looks at each worker a hundred times a second and more, for pictures of its dashboard: 4 % of each
# core, and more from who computes beside it; and at its scheduler, 2 %.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
LOOKS = {"tick": "distributed.admin.tick.interval", "monitor": "distributed.admin.system-monitor.interval"}
FORKED = "forkserver"
LOADED = ("torch", "napari_mtssl.engine.runners", "napari_mtssl.engine.slide_prediction")


def dask_setup(server: Nanny | Scheduler) -> None:
    """Prepare a scheduler, or a nanny before its first worker starts; Dask calls it.

    A worker that is started again after its end has to load torch and more first, 4 s of a core. Where the
    system can do it, one process loads all that once, computes nothing, and workers are forked from it.
    """
    import dask
    from dask.utils import parse_timedelta

    dask.config.set(QUIET)
    for name, setting in LOOKS.items():  # it looks at itself, too, and has read its settings already
        if name in server.periodic_callbacks:
            server.periodic_callbacks[name].callback_time = 1000 * parse_timedelta(QUIET[setting])
    inherited = getattr(server, "config", None)  # what a nanny's workers get
    if inherited is None:
        return
    dask.config.set(QUIET, config=inherited)
    if FORKED in multiprocessing.get_all_start_methods():
        _fork_workers(inherited)


def _fork_workers(inherited: dict[str, object]) -> None:
    """Have the workers of a nanny forked from a process that has loaded what they need."""
    import dask
    from distributed.utils import get_mp_context

    for config in (dask.config.config, inherited):
        dask.config.set({"distributed.worker.multiprocessing-method": FORKED}, config=config)
    get_mp_context()  # says what Dask wants loaded, once: ours must come after it
    methods = {point.module for point in entry_points(group=GROUP)}
    multiprocessing.get_context(FORKED).set_forkserver_preload(["distributed", *LOADED, *sorted(methods)])
