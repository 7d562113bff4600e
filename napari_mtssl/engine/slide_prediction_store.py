"""What was predicted of a slide, on disk: each tile is there whole or not at all, whenever the program ends.

A folder with ``tiles.sqlite`` (which tiles are done, the cells in them, and an R-tree of those), and for what
is a grid one OME-Zarr image each: ``mask.ome.zarr`` with labels, ``NAME.ome.zarr`` with a picture. A tile's
chunks are its own. They are written first, and alike if they are written again; then its cells and the mark
that it is done, in one transaction.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.engine.tile_output import TileOutput
from napari_mtssl.images.pyramids import ChunkWriter, create_pyramid

if TYPE_CHECKING:
    import zarr

_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tiles (number INTEGER PRIMARY KEY, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    tile INTEGER NOT NULL, row REAL NOT NULL, col REAL NOT NULL, class INTEGER NOT NULL,
    confidence REAL NOT NULL, uncertainty REAL
);
CREATE VIRTUAL TABLE IF NOT EXISTS places USING rtree (id, row0, row1, col0, col1);
CREATE TRIGGER IF NOT EXISTS placed AFTER INSERT ON cells
BEGIN INSERT INTO places VALUES (new.rowid, new.row, new.row, new.col, new.col); END;
"""
BLOCK = 2048  # elements of a grid that are reduced at a time
MASK = "mask"


class SlideError(ValueError):
    """A slide cannot be predicted as asked; the message says what to change."""


class OtherPredictionError(SlideError):
    """A folder holds the prediction of something else."""


class SlideStore:
    """The prediction of one slide by one trained method.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    identity : mapping
        What the result depends on (JSON types); a folder that holds another one's result is refused.
    classes : sequence of str
        Names of the cells' classes.

    Raises
    ------
    SlideError
        If the folder holds the prediction of something else, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], classes: Sequence[str]) -> None:
        self.folder = folder
        self.classes = tuple(classes)
        self._grids: dict[str, list[zarr.Array]] = {}
        self._writers: dict[str, ChunkWriter] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # isolation_level None: transactions are begun and ended here, by name
            self._db = sqlite3.connect(folder / "tiles.sqlite", isolation_level=None, timeout=0.5)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # two programs would do each tile twice
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise SlideError(
                f"{folder} cannot be used ({error}); another program may be predicting into it."
            ) from error
        self._claim(dict(identity))

    def _claim(self, identity: dict[str, Any]) -> None:
        said = json.dumps(identity, sort_keys=True)
        known = self._about("identity")
        if known is None:
            about = {"identity": said, "classes": json.dumps(self.classes)}
            self._db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())
        elif known != said:
            old = json.loads(known)
            other = next(name for name in {**old, **identity} if old.get(name) != identity.get(name))
            self._db.close()
            raise OtherPredictionError(
                f"{self.folder} holds a prediction with another {other}; remove it or choose another folder."
            )

    def _about(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def whole(self, take: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Give what is kept of the slide as a whole; what `take` gives if there is nothing yet, and keep it.

        Raises
        ------
        SlideError
            If it cannot be written.
        """
        row = self._db.execute("SELECT value FROM about WHERE name = 'whole'").fetchone()
        if row is None:
            packed = io.BytesIO()
            np.savez(packed, **take())  # type: ignore[arg-type]
            row = (packed.getvalue(),)
            try:
                self._db.execute("INSERT INTO about VALUES ('whole', ?)", row)
            except sqlite3.OperationalError as error:
                raise _full(self.folder, error) from error
        with np.load(io.BytesIO(row[0]), allow_pickle=False) as found:
            return dict(found)

    def done(self) -> set[int]:
        """Numbers of the tiles that are done."""
        return {number for (number,) in self._db.execute("SELECT number FROM tiles")}

    @property
    def seconds(self) -> float:
        """Seconds of prediction that are in it, of all programs and workers together."""
        return float(self._db.execute("SELECT coalesce(sum(seconds), 0) FROM tiles").fetchone()[0])

    def grid(self, name: str) -> list[zarr.Array] | None:
        """Levels of a grid, the finest first; None if there is none."""
        import zarr

        if name in self._grids:
            return self._grids[name]
        path = self.folder / f"{name}.ome.zarr"
        if (path / "zarr.json").exists():
            group = zarr.open_group(path, mode="r+")
            self._grids[name] = [group[str(level)] for level in range(len(list(group.array_keys())))]
        return self._grids.get(name)

    def make_grid(
        self, name: str, shape: tuple[int, int], dtype: Any, *, pixel_size_um: float | None, **settings: Any
    ) -> list[zarr.Array]:
        """Make a grid, or give the one that is there; `settings` as for `create_pyramid`."""
        found = self.grid(name)
        if found is None:
            # under another name first: a folder that was half made is not taken for a grid
            part = self.folder / f"{name}.ome.zarr.part"
            create_pyramid(part, shape, np.dtype(dtype), pixel_size_um, **settings)
            part.rename(self.folder / f"{name}.ome.zarr")
            found = self.grid(name)
            assert found is not None
        return found

    def write_chunk(self, name: str, row: int, col: int, values: np.ndarray) -> None:
        """Write a chunk of a grid that was made: all of it whose first element is at `row, col`.

        Raises
        ------
        SlideError
            If it cannot be written.
        """
        writer = self._writers.get(name)
        if writer is None:
            levels = self.grid(name)
            assert levels is not None
            writer = self._writers[name] = ChunkWriter(levels[0])
        try:
            writer.write(row, col, values)
        except OSError as error:
            raise _full(self.folder, error) from error

    def commit(self, number: int, output: TileOutput) -> None:
        """Keep the cells of a tile and mark it as done, both or neither.

        Raises
        ------
        SlideError
            If it cannot be written.
        """
        rows = [(number, *row) for row in output.cells.tolist()]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("INSERT INTO tiles VALUES (?, ?)", (number, output.seconds))
                self._db.executemany("INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise _full(self.folder, error) from error

    def cells(self) -> pd.DataFrame:
        """All cells found so far, in the order of the tiles.

        Returns
        -------
        DataFrame
            ``row, col, class, confidence, uncertainty`` in level-0 pixels.
        """
        names = ["row", "col", "class", "confidence", "uncertainty"]
        query = self._db.execute(f"SELECT {', '.join(names)} FROM cells ORDER BY tile, rowid")
        parts = []
        while rows := query.fetchmany(100_000):  # rows of Python numbers are large
            parts.append(np.array(rows, dtype=np.float64))
        found = pd.DataFrame(np.concatenate(parts) if parts else np.empty((0, 5)), columns=names)
        found["class"] = np.array(self.classes, dtype=object)[found["class"].astype(int).to_numpy()]
        return found

    def finish(self) -> Iterator[tuple[int, int]]:
        """Make the coarser levels of all grids, once all tiles are done; yields how far it is."""
        if self._about("finished") is not None:
            return
        parts = []
        for path in sorted(self.folder.glob("*.ome.zarr")):
            name = path.name.removesuffix(".ome.zarr")
            for fine, coarse in zip((levels := self.grid(name) or []), levels[1:], strict=False):
                step = BLOCK // 2
                corners = np.ndindex(-(-coarse.shape[0] // step), -(-coarse.shape[1] // step))
                parts += [(name, fine, coarse, i * step, j * step) for i, j in corners]
        for done, (name, fine, coarse, row0, col0) in enumerate(parts, start=1):
            block = np.asarray(fine[2 * row0 : 2 * row0 + BLOCK, 2 * col0 : 2 * col0 + BLOCK])
            small = block[::2, ::2] if name == MASK else _means(block)
            coarse[row0 : row0 + small.shape[0], col0 : col0 + small.shape[1]] = small
            yield done, len(parts)
        self._db.execute("INSERT INTO about VALUES ('finished', 'yes')")

    def tiles(self, name: str) -> Iterator[tuple[int, int, np.ndarray]]:
        """Parts of a grid's finest level: first row and column, and values; nothing if there is no grid."""
        fine = (self.grid(name) or [None])[0]
        if fine is not None:
            for i, j in np.ndindex(-(-fine.shape[0] // BLOCK), -(-fine.shape[1] // BLOCK)):
                row0, col0 = i * BLOCK, j * BLOCK
                yield row0, col0, np.asarray(fine[row0 : row0 + BLOCK, col0 : col0 + BLOCK])

    def areas(self, names: Sequence[str]) -> pd.DataFrame:
        """Area of every mask class: ``name, pixels`` in elements of the mask; what is glass is in none."""
        counts = np.zeros(len(names) + 1, np.int64)
        labels = (self.grid(MASK) or [None])[0]
        if labels is not None:
            for row0 in range(0, labels.shape[0], BLOCK):
                band = np.asarray(labels[row0 : row0 + BLOCK])
                counts += np.bincount(band.ravel(), minlength=len(counts))
        return pd.DataFrame({"name": list(names), "pixels": counts[1:]})

    def close(self) -> None:
        """Let another program use the folder."""
        self._db.close()


def _full(folder: Path, error: Exception) -> SlideError:
    return SlideError(f"{folder} cannot be written ({error}); is the disk full?")


def _means(block: np.ndarray) -> np.ndarray:
    """Means over blocks of 2 x 2 of floats; an odd last row or column is repeated."""
    over = [(0, n % 2) for n in block.shape]
    whole = np.pad(block, over, mode="edge").astype(np.float32)
    return whole.reshape(whole.shape[0] // 2, 2, whole.shape[1] // 2, 2).mean(axis=(1, 3)).astype(block.dtype)
