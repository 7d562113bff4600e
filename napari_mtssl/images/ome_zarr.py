"""OME-Zarr, versions 0.4 and 0.5, local or at a URL; levels are lazy, the pixel size is in their scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.chunk_cache import Cached
from napari_mtssl.images.image import Image, ImageError, Source
from napari_mtssl.images.sources import Tiled, check_pixels
from napari_mtssl.images.units import square_pixel_um

if TYPE_CHECKING:
    import zarr


def open_ome_zarr(path: Path, url: str | None = None) -> Image:
    """Open the first multiscale image of an OME-Zarr folder.

    Parameters
    ----------
    path : Path
        Of an image at a URL, only the name is used.
    url : str, optional
        Where it is, if it is not in a folder of this computer: anything that fsspec understands. Chunks that
        were read are kept for a while.

    Raises
    ------
    ImageError
        If it is no OME-Zarr image, a level is missing, or it holds something else than a grey or RGB plane of
        8 or 16 bit.
    """
    import zarr
    import zarr.errors

    from napari_mtssl.study.addresses import options, shown

    where = path.name if url is None else shown(url)
    try:
        if url is None:
            group = zarr.open_group(path, mode="r")
        else:
            group = zarr.open_group(url, mode="r", storage_options=options(url))
    except ImportError as error:
        raise ImageError(
            f"{where} needs a package that is not installed ({error}); install napari-mtssl[remote]."
        ) from error
    except (OSError, KeyError, ValueError, zarr.errors.BaseZarrError) as error:
        raise ImageError(
            f"{path.name} is not an OME-Zarr image (no group in it); choose the folder of one."
            if url is None
            else f"There is no OME-Zarr image at {where}, or it cannot be reached ({error}); check it."
        ) from error
    group, image = _multiscale(group, path)
    axes = _axes(image, path)
    sources = []
    for dataset in image["datasets"]:
        try:
            array = group[dataset["path"]]
        except KeyError as error:
            raise ImageError(
                f"{path.name} lacks its level '{dataset['path']}'; copy the folder again."
            ) from error
        if not isinstance(array, zarr.Array) or array.ndim != len(axes):
            raise ImageError(
                f"{path.name}: level '{dataset['path']}' is not an array with axes {axes}; export it again."
            )
        check_pixels(path.name, array.dtype, axes, array.shape)
        source: Source = Tiled(array, axes, array.chunks)
        sources.append(source if url is None else Cached(source, where))
    return Image(path, sources, _pixel_size(image, axes))


def _multiscale(group: zarr.Group, path: Path) -> tuple[zarr.Group, Mapping[str, Any]]:
    """Find the group of the first image and its description, also inside a bioformats2raw collection."""
    for candidate in (group, group.get("0")):
        if candidate is None or not hasattr(candidate, "attrs"):
            continue
        attributes = dict(candidate.attrs)
        ome = attributes.get("ome", attributes)  # 0.5 nests what 0.4 keeps at the top
        if isinstance(ome, Mapping) and ome.get("multiscales"):
            image = ome["multiscales"][0]
            if not image.get("datasets"):
                raise ImageError(f"{path.name} names no levels in its metadata; export it again as OME-Zarr.")
            return candidate, image
    raise ImageError(
        f"{path.name} is a Zarr folder without OME-Zarr image metadata ('multiscales'); "
        "export it as OME-Zarr 0.4 or 0.5."
    )


def _axes(image: Mapping[str, Any], path: Path) -> str:
    """Axis letters, such as TCZYX."""
    axes = image.get("axes") or list("tczyx")
    names = [str(axis["name"] if isinstance(axis, Mapping) else axis) for axis in axes]
    if any(len(name) != 1 for name in names):
        raise ImageError(f"{path.name} has axes {', '.join(names)}; export it with axes named t, c, z, y, x.")
    letters = "".join(names).upper()
    # Samples that come last belong to a pixel, as in RGB(A); channels that come first are separate planes.
    return letters[:-1] + "S" if letters.endswith("C") else letters


def _pixel_size(image: Mapping[str, Any], axes: str) -> float | None:
    """Side of a level-0 pixel in micrometres."""
    described = image.get("axes") or []
    units = {
        letter: axis.get("unit")
        for letter, axis in zip(axes, described, strict=False)
        if isinstance(axis, Mapping)
    }
    scale = np.ones(len(axes))
    transforms = [
        *image["datasets"][0].get("coordinateTransformations", []),
        *image.get("coordinateTransformations", []),
    ]
    scales = [transform["scale"] for transform in transforms if transform.get("type") == "scale"]
    if not scales or any(len(factors) != len(axes) for factors in scales):
        return None
    for factors in scales:
        scale = scale * np.asarray(factors, dtype=float)
    lengths = [square_pixel_um(scale[axes.index(a)], scale[axes.index(a)], units.get(a)) for a in "YX"]
    return square_pixel_um(lengths[0], lengths[1], "um")
