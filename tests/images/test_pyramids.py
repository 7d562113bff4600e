import numpy as np
import pytest
import zarr

from napari_mtssl.images.pyramids import ChunkWriter, create_pyramid

SHAPE, CHUNK = (150, 100), 64


def chunks_of(values):
    for row in range(0, SHAPE[0], CHUNK):
        for col in range(0, SHAPE[1], CHUNK):
            yield row, col, values[row : row + CHUNK, col : col + CHUNK]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_chunks_are_what_zarr_writes_to_the_byte(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 3, SHAPE).astype(dtype)
    values[:CHUNK, :CHUNK] = 0  # such a chunk has no file
    theirs, ours = (
        create_pyramid(tmp_path / name, SHAPE, np.dtype(dtype), None, chunk=CHUNK)[0]
        for name in ("theirs", "ours")
    )
    theirs[...] = values
    writer = ChunkWriter(ours)
    writer.write(0, 0, np.ones((CHUNK, CHUNK), dtype))  # written before, and over again
    for row, col, chunk in chunks_of(values):
        writer.write(row, col, chunk)
    assert np.array_equal(np.asarray(ours), values)
    written = {name: data for name, data in files(tmp_path / "ours").items() if "/c/" in name}
    assert written == {name: data for name, data in files(tmp_path / "theirs").items() if "/c/" in name}
    assert len(written) == 5


@pytest.mark.parametrize("how", ["memory", "compression", "names"])
def test_an_array_that_is_kept_otherwise_is_left_to_zarr(tmp_path, how):
    settings = {"compression": {"compressors": None}, "names": {"chunk_key_encoding": {"name": "v2"}}}
    store = zarr.storage.MemoryStore() if how == "memory" else tmp_path / "a"
    array = zarr.create_array(
        store, shape=SHAPE, chunks=(CHUNK, CHUNK), dtype=np.uint8, **settings.get(how, {})
    )
    values = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    for row, col, chunk in chunks_of(values):
        ChunkWriter(array).write(row, col, chunk)
    assert np.array_equal(np.asarray(array), values)
