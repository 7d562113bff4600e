"""Images that are at an address (a URL) instead of in a file: OME-Zarr on a server or in an object store.

A study keeps the address and nothing that would let somebody in: names and passwords belong to fsspec's own
settings. The server is asked only when pixels are wanted, or when somebody wants to know.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from napari_mtssl.study.records import StudyError

if TYPE_CHECKING:
    import zarr

CONNECT, ANSWER = 10.0, 30.0  # seconds that a web server has to be there, and to say the next bytes
PATIENCE = 20.0  # seconds in which a server must have said what is there, whatever it is asked by
SMALL = 2**22  # pixels of a level that is read as a whole
PLACES = 4  # of a larger one, so many places a side
PATCH = 32


def is_url(text: object) -> bool:
    """Whether something is an address, and no path of a file."""
    return "://" in str(text)


def check_url(url: str) -> str:
    """Give an address as a study keeps it.

    Raises
    ------
    StudyError
        If there is a password or a key in it.
    """
    parts = urlsplit(url)
    if parts.password is not None or parts.query or parts.fragment:
        raise StudyError(
            f"The address of {shown(url)} has a password or a key in it, which a study does not keep: leave "
            "out what lets you in, and give it to fsspec (its settings in ~/.config/fsspec, or the "
            "environment, as AWS_PROFILE)."
        )
    return url.rstrip("/")


def shown(url: str) -> str:
    """Give an address for a message: without what lets somebody in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def options(url: str) -> dict[str, Any] | None:
    """Give settings with which zarr opens an address: a web server that is silent is given up in the end."""
    if not url.startswith(("http://", "https://")):
        return None
    try:
        from aiohttp import ClientTimeout
    except ImportError:  # opening says what to install
        return None
    patience = ClientTimeout(total=None, sock_connect=CONNECT, sock_read=ANSWER)
    return {"client_kwargs": {"timeout": patience}}


def fingerprint(url: str) -> str:
    """Fingerprint of an OME-Zarr image at an address.

    Of its metadata, the shape of every level, and the pixels of the coarsest one; of a coarsest level of more
    than 4 million pixels, of sixteen patches. So little is read, and two slides differ.

    Returns
    -------
    str
        BLAKE2b with 128 bits, in hexadecimal.

    Raises
    ------
    StudyError
        If the server does not answer, or there is no image.
    """
    return _within(PATIENCE, url, lambda: _fingerprint(url))


def _fingerprint(url: str) -> str:
    import zarr

    group = zarr.open_group(url, mode="r", storage_options=options(url))
    found, image = _multiscale(group)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(image, sort_keys=True, default=str).encode())
    levels = [found[level["path"]] for level in image["datasets"]]
    for level in levels:
        digest.update(f"{level.shape} {level.dtype}".encode())
    digest.update(np.ascontiguousarray(_sample(levels[-1])).tobytes())
    return digest.hexdigest()


def _multiscale(group: zarr.Group) -> tuple[zarr.Group, Mapping[str, Any]]:
    """Find the group of the first image and its description; OME-Zarr 0.5 nests what 0.4 keeps at the top."""
    for candidate in (group, group.get("0")):
        attributes = dict(getattr(candidate, "attrs", {}))
        described = attributes.get("ome", attributes).get("multiscales")
        if described and candidate is not None:
            return candidate, described[0]
    raise ValueError("it has no metadata of an image")


def _sample(level: zarr.Array) -> np.ndarray:
    """Pixels of a level; of a large one, patches evenly spread over it."""
    rows, cols = sorted(np.argsort(level.shape, kind="stable")[-2:])  # the two longest axes
    height, width = level.shape[rows], level.shape[cols]
    if height * width <= SMALL:
        return np.asarray(level[...])
    patches = []
    for top in np.linspace(0, max(height - PATCH, 0), PLACES).astype(int):
        for left in np.linspace(0, max(width - PATCH, 0), PLACES).astype(int):
            where = [slice(None)] * level.ndim
            where[rows], where[cols] = slice(top, top + PATCH), slice(left, left + PATCH)
            patches.append(np.asarray(level[tuple(where)]).ravel())
    return np.concatenate(patches)


def _within(seconds: float, url: str, ask: Callable[[], str]) -> str:
    """Ask a server; one that says nothing for so long does not answer, however long its library waits."""
    answers: queue.Queue[str | Exception] = queue.Queue()

    def work() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            answers.put(error)

    threading.Thread(target=work, daemon=True, name="address").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise StudyError(
            f"{url} did not answer within {seconds:g} seconds; try again when the server is there."
        ) from None
    if isinstance(answer, ImportError):
        raise StudyError(
            f"{url} needs a package that is not installed ({answer}); install napari-mtssl[remote]."
        ) from answer
    if isinstance(answer, Exception):
        why = " ".join(str(answer).split()) or type(answer).__name__
        raise StudyError(
            f"There is no OME-Zarr image at {url}, or it cannot be reached ({why}); check the address."
        ) from answer
    return answer
