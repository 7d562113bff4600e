"""The images of a study: where they are, what they were, and how they are split."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_mtssl.study import addresses, files, names, schema
from napari_mtssl.study.core import StudyCore
from napari_mtssl.study.records import (
    SPLITS,
    ImageProblem,
    ImageRecord,
    Split,
    StudyError,
    check_choice,
    plural,
)

_SELECT = "SELECT id, path, relative, checksum, height, width, pixel_size_um, grp, split FROM images"


class ImageTable(StudyCore):
    """Add, find, split and relocate images."""

    def add_image(
        self,
        path: Path | str,
        *,
        height: int,
        width: int,
        pixel_size_um: float | None = None,
        group: str | None = None,
        split: Split = "train",
        fingerprint: str | None = None,
    ) -> ImageRecord:
        """Add an image; one that the study has already is returned as it is.

        Parameters
        ----------
        path : path or str
            File, OME-Zarr folder, or the URL of an OME-Zarr image. It stays where it is.
        height, width : int
            Level-0 pixels.
        pixel_size_um : float, optional
            Micrometres per pixel.
        group : str, optional
            What stays together in splits, by default the name of the file, or stack, without suffix; of one
            that is named after its DICOM number (``1.2.840.…``), all of it. See `names.own_group`.
        split : {'train', 'validation', 'test'}
        fingerprint : str, optional
            If somebody has read it already; see `files.checksum` and `addresses.fingerprint`.

        Raises
        ------
        StudyError
            If the file cannot be read, the server does not answer, the URL has a password in it, a value is
            not valid, or the study cannot be written.
        """
        location, path = _located(path)
        # only these are looked at: of a folder of thousands, each would be read for each
        alike = self._called(names.file_of(path).name)
        for record in alike:
            if record.location == location:
                return record
        check_choice(split, SPLITS, "split")
        if height < 1 or width < 1:
            raise StudyError(f"{path.name} has no pixels: {height} rows, {width} columns.")
        _check_pixel_size(pixel_size_um)
        values = {
            **_identity(location, self.path, fingerprint),
            "height": int(height),
            "width": int(width),
            "pixel_size_um": pixel_size_um,
            "grp": group or names.own_group(path, self.images() if alike else []),
            "split": split,
        }
        with self.edit(f"Added the image {path.name}"):
            sql = f"INSERT INTO images ({', '.join(values)}) VALUES ({', '.join(f':{v}' for v in values)})"
            image_id = self._db.connection.execute(sql, values).lastrowid
        assert image_id is not None
        return self.image(image_id)

    def images(self, split: Split | None = None) -> list[ImageRecord]:
        """Images in the order they were added, all or those of one split."""
        if split is None:
            rows = self._rows(f"{_SELECT} ORDER BY id")
        else:
            check_choice(split, SPLITS, "split")
            rows = self._rows(f"{_SELECT} WHERE split = ? ORDER BY id", (split,))
        return [self._record(*row) for row in rows]

    def _called(self, name: str) -> list[ImageRecord]:
        """Images in whose path a name occurs: all of that name, and planes of stacks of that name."""
        rows = self._rows(f"{_SELECT} WHERE instr(path, ?) > 0 ORDER BY id", (name,))
        return [self._record(*row) for row in rows]

    def image(self, image_id: int) -> ImageRecord:
        """One image.

        Raises
        ------
        StudyError
            If the study has none with this number.
        """
        rows = self._rows(f"{_SELECT} WHERE id = ?", (int(image_id),))
        if not rows:
            raise StudyError(f"The study '{self.name}' has no image number {image_id}.")
        return self._record(*rows[0])

    def find_image(self, name: str) -> ImageRecord:
        """Find an image by its path or URL, its file name, that without suffix, or with folders in front.

        The first of these that fits counts; the last is how exported files are called, ``PAT1_IM0001``.

        Raises
        ------
        StudyError
            If there is none, or more than one.
        """
        images, plain = self.images(), names.composed(name)
        ways: tuple[Callable[[ImageRecord], bool], ...] = (
            lambda image: image.location == name,
            lambda image: names.composed(image.path.name) == plain,
            lambda image: names.composed(image.path.stem) == plain,
            lambda image: names.composed(image.path.name.split(".")[0]) == plain,
            lambda image: names.is_called(image, name),
        )
        for way in ways:
            found = [image for image in images if way(image)]
            if len(found) == 1:
                return found[0]
            if found:
                paths = ", ".join(image.location for image in found)
                raise StudyError(
                    f"'{name}' is more than one image of the study: write its whole path ({paths})."
                )
        known = ", ".join(image.name for image in images[:8]) + (", ..." if len(images) > 8 else "")
        raise StudyError(f"The study '{self.name}' has no image '{name}'; it has: {known or 'none'}.")

    def check_no_image(self, path: Path | str) -> None:
        """See that a file to be written is none of the study's images.

        Raises
        ------
        StudyError
        """
        path = Path(path)
        if not path.exists():
            return
        for image in self.images():
            if image.url is None and image.path.exists() and os.path.samefile(image.path, path):
                raise StudyError(
                    f"{path} is an image of the study, which would be lost: choose another folder or name. "
                    "Nothing was written."
                )

    def set_split(self, image_id: int, split: Split) -> None:
        """Use an image to train on, to validate, or to test.

        Raises
        ------
        StudyError
            If there is no such image or split, or the study cannot be written.
        """
        check_choice(split, SPLITS, "split")
        self._update_image(image_id, f"Put {{name}} into {split}", split=split)

    def parted_groups(self) -> dict[str, tuple[Split, ...]]:
        """Find groups whose images are in more than one split, and say in which."""
        splits: dict[str, set[Split]] = {}
        for image in self.images():
            if image.group:
                splits.setdefault(image.group, set()).add(image.split)
        in_order = {group: tuple(s for s in SPLITS if s in found) for group, found in splits.items()}
        return {group: found for group, found in in_order.items() if len(found) > 1}

    def set_group(self, image_id: int, group: str) -> None:
        """Say what stays together when images are split (a patient, a slide).

        Raises
        ------
        StudyError
            If there is no such image, or the study cannot be written.
        """
        self._update_image(image_id, f"Put {{name}} into the group {group}", grp=group)

    def set_pixel_size(self, image_id: int, pixel_size_um: float | None) -> None:
        """Set micrometres per pixel; None for unknown.

        Raises
        ------
        StudyError
            If it is not positive, there is no such image, or the study cannot be written.
        """
        _check_pixel_size(pixel_size_um)
        self._update_image(image_id, "Set the pixel size of {name}", pixel_size_um=pixel_size_um)

    def relocate_image(
        self,
        image_id: int,
        new_path: Path | str,
        *,
        accept_changed: bool = False,
        fingerprint: str | None = None,
    ) -> ImageRecord:
        """Say where an image is now.

        Parameters
        ----------
        image_id : int
        new_path : path or str
            A path, or the URL of an OME-Zarr image.
        accept_changed : bool
            Take the file although its content differs from what was added. Its labels stay where they are.
        fingerprint : str, optional
            As for `add_image`.

        Raises
        ------
        StudyError
            If nothing can be read there, or the content differs and `accept_changed` is not set.
        """
        image = self.image(image_id)
        location, _ = _located(new_path)
        identity = _identity(location, self.path, fingerprint)
        if identity["checksum"] != image.checksum and not accept_changed:
            raise StudyError(
                f"{location} is not the image that was added as {image.name}: its content differs. "
                "Choose the original file, or accept the changed one if its pixels lie where they did."
            )
        if any(other.location == location and other.id != image.id for other in self.images()):
            raise StudyError(f"{location} is another image of this study already.")
        self._update_image(image_id, "Relocated {name}", **identity)
        return self.image(image_id)

    def remove_image(self, image_id: int) -> None:
        """Remove an image and its labels from the study (not the file); `undo` brings both back.

        Raises
        ------
        StudyError
            If there is no such image, or the study cannot be written.
        """
        name = self.image(image_id).name
        n = self._rows("SELECT count(*) FROM cells WHERE image_id = ?", (image_id,))[0][0]
        with self.edit(f"Removed the image {name}" + (f" with {plural(n, 'cell')}" if n else "")):
            for table in schema.OF_IMAGES:
                self._db.connection.execute(f"DELETE FROM {table} WHERE image_id = ?", (image_id,))
            self._db.connection.execute("DELETE FROM images WHERE id = ?", (image_id,))

    def problems(self, *, ask_servers: bool = False) -> list[ImageProblem]:
        """Images that are not where they were, or not what they were.

        Content is only compared where size or time of the file differ from when it was added.

        Parameters
        ----------
        ask_servers : bool
            Look at images at a URL, too: that takes a request or more for each, and up to 20 seconds for a
            server that does not answer.
        """
        out = []
        stamps = {row[0]: row[1:] for row in self._rows("SELECT id, bytes, modified FROM images")}
        for image in self.images():
            if image.url is not None:
                out += _problem_of_url(image) if ask_servers else []
            elif not os.path.exists(image.path):
                message = (
                    f"{image.name} is no longer at {image.path}. Say where it is now; its labels are kept."
                )
                out.append(ImageProblem(image, "moved", message))
            elif files.stamp(image.path) != stamps[image.id] and files.checksum(image.path) != image.checksum:
                message = (
                    f"{image.path} has changed since it was added: its labels may lie in the wrong places. "
                    "Put the original back, or accept the changed file."
                )
                out.append(ImageProblem(image, "changed", message))
        return out

    def _update_image(self, image_id: int, what: str, **values: Any) -> None:
        name = self.image(image_id).name
        with self.edit(what.format(name=name)):
            sets = ", ".join(f"{column} = :{column}" for column in values)
            differs = " OR ".join(f"{column} IS NOT :{column}" for column in values)
            sql = f"UPDATE images SET {sets} WHERE id = :id AND ({differs})"
            self._db.connection.execute(sql, {**values, "id": image_id})

    def _record(self, image_id: int, path: str, relative: str | None, *values: Any) -> ImageRecord:
        if addresses.is_url(path):
            return replace(ImageRecord(image_id, Path(path), *values), url=path)
        here = Path(path)  # os.path.exists: a folder that may not be searched is no error here
        if relative is not None and not os.path.exists(here):
            moved = Path(os.path.normpath(self.path.absolute() / relative))
            here = moved if os.path.exists(moved) else here
        return ImageRecord(image_id, here, *values)


def _located(where: Path | str) -> tuple[str, Path]:
    """Path or URL as a study keeps it, and a path that has its name."""
    if addresses.is_url(where):
        url = addresses.check_url(str(where))
        return url, Path(url)
    path = Path(where).expanduser().absolute()
    return str(path), path


def _problem_of_url(image: ImageRecord) -> list[ImageProblem]:
    """Ask a server whether an image is there, and is what it was."""
    assert image.url is not None
    try:
        found = addresses.fingerprint(image.url)
    except StudyError as error:
        return [ImageProblem(image, "moved", f"{error} The labels of {image.name} are kept.")]
    if found == image.checksum:
        return []
    message = (
        f"{image.url} has changed since it was added: its labels may lie in the wrong places. "
        "Put the original back, or accept the changed image."
    )
    return [ImageProblem(image, "changed", message)]


def _identity(location: str, study: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """Gather what is kept of a file, or of what is at a URL, to find and to know it again."""
    if addresses.is_url(location):
        checksum = fingerprint or addresses.fingerprint(location)
        return {"path": location, "relative": None, "checksum": checksum, "bytes": 0, "modified": 0}
    path = Path(location)
    size, modified = files.stamp(path)
    try:
        relative: str | None = Path(os.path.relpath(path, study.absolute())).as_posix()
    except ValueError:  # another drive
        relative = None
    return {
        "path": str(path),
        "relative": relative,
        "checksum": fingerprint or files.checksum(path),
        "bytes": size,
        "modified": modified,
    }


def _check_pixel_size(pixel_size_um: float | None) -> None:
    if pixel_size_um is not None and not 0 < pixel_size_um < float("inf"):
        raise StudyError(f"A pixel cannot be {pixel_size_um} micrometres wide; give a positive number.")
