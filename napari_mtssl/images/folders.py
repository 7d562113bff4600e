"""From what a user points at, files and folders, to images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_mtssl.images.image import ImageError
from napari_mtssl.images.opening import is_image

ZARR = (".zattrs", "zarr.json")  # what lies at the top of an OME-Zarr image
MASKS = ("@", "_mask")  # ends of the names of masks that lie beside their images


def image_files(paths: Iterable[Path | str]) -> list[Path | str]:
    """List images, URLs, and images in folders; files there whose names end on ``@`` or ``_mask`` are masks.

    A folder whose name is that of an OME-Zarr image is one image; what lies inside of such a folder means it.

    Raises
    ------
    ImageError
        If there are no images in a folder.
    """
    found: list[Path | str] = []
    for given in paths:
        if "://" in str(given):
            found.append(str(given))
            continue
        path = around(Path(given))
        if not path.is_dir() or is_image(path):
            found.append(path)
            continue
        inside = [p for p in sorted(path.iterdir()) if is_image(p) and not p.stem.endswith(MASKS)]
        if not inside and any((path / name).is_file() for name in ZARR):
            raise ImageError(
                f"The folder {path} looks like an OME-Zarr image, but its name does not end on .zarr: "
                "rename it."
            )
        if not inside:
            raise ImageError(f"There are no images in the folder {path}; name one that has some.")
        found += inside
    return list(dict.fromkeys(found))


def around(path: Path) -> Path:
    """Return the OME-Zarr image that a path lies in (a level, its metadata), or the path itself."""
    zarr = next((p for p in path.parents if p.suffix.lower() == ".zarr" and p.is_dir()), None)
    return path if zarr is None else zarr
