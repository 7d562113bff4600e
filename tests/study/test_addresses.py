"""Images at an address belong to a study like files: known again, and told when they have gone or changed."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import fsspec
import numpy as np
import pandas as pd
import pytest

from napari_mtssl.images import ImageError, ImagePool, open_image
from napari_mtssl.images.pyramids import create_pyramid
from napari_mtssl.study import Study, StudyError, addresses, exchange
from napari_mtssl.study.merge_study import merge_study

URL = "memory://slides/one.ome.zarr"


@pytest.fixture
def put(tmp_path):
    """Write an image of noise to an address."""
    memory = fsspec.filesystem("memory")

    def write(url, seed=0, side=300):
        pixels = np.random.default_rng(seed).integers(0, 255, (3, side, side), np.uint8)
        path = tmp_path / f"{seed}.ome.zarr"
        create_pyramid(path, (side, side, 3), np.dtype(np.uint8), 0.5, chunk=128)[0][...] = pixels
        there = url.removeprefix("memory:/")
        if memory.exists(there):
            memory.rm(there, recursive=True)
        memory.put(str(path), there, recursive=True)

    yield write
    memory.rm("/slides", recursive=True)


def added(study, url=URL):
    image = open_image(url)
    return study.add_image(image.location, height=image.height, width=image.width, pixel_size_um=0.5)


def test_an_address_is_kept_as_it_is(put, tmp_path):
    put(URL)
    with Study.create(tmp_path / "far") as study:
        record = added(study)
        assert (record.url, record.location, record.name) == (URL, URL, "one.ome.zarr")
        assert added(study) == record
        assert record.group == "one"
        assert study.find_image("one") == study.find_image(URL) == record
        assert study.problems() == study.problems(ask_servers=True) == []
        pixels = ImagePool()(record).read(0, 0, 300, 300)
        assert np.array_equal(pixels, open_image(URL).read(0, 0, 300, 300))
        study.remove_image(record.id)
        study.undo()
    with Study.open(study.path) as again:
        assert again.images() == [record]


def test_what_went_wrong_at_an_address_is_told(put, tmp_path):
    put(URL)
    put("memory://slides/two.ome.zarr", seed=1)
    with Study.create(tmp_path / "far") as study:
        record = added(study)
        put(URL, seed=1)
        (problem,) = study.problems(ask_servers=True)
        assert (problem.kind, problem.image) == ("changed", record)
        fsspec.filesystem("memory").rm("/slides/one.ome.zarr", recursive=True)
        (problem,) = study.problems(ask_servers=True)
        assert problem.kind == "moved"
        assert "cannot be reached" in problem.message
        assert "labels of one.ome.zarr are kept" in problem.message
        with pytest.raises(ImageError, match="cannot be reached"):
            ImagePool()(record)
        with pytest.raises(StudyError, match="content differs"):
            study.relocate_image(record.id, "memory://slides/two.ome.zarr")
        put("memory://slides/three.ome.zarr")
        moved = study.relocate_image(record.id, "memory://slides/three.ome.zarr")
        assert moved.url == "memory://slides/three.ome.zarr"
        assert study.problems(ask_servers=True) == []


def test_a_server_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(addresses, "PATIENCE", 0.1)
    monkeypatch.setattr(addresses, "_fingerprint", lambda url: Event().wait(5))
    with pytest.raises(StudyError, match=r"https://silent/a\.zarr did not answer within 0\.1 seconds"):
        addresses.fingerprint("https://silent/a.zarr")


def test_a_web_server_that_goes_away_costs_nothing(tmp_path):
    pytest.importorskip("aiohttp")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8)
    path = tmp_path / "served" / "one.ome.zarr"
    create_pyramid(path, (64, 64, 3), np.dtype(np.uint8), 0.5)[0][...] = pixels

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/one.ome.zarr"
    with Study.create(tmp_path / "far") as study:
        record = added(study, url)
        image = ImagePool()(record)
        assert study.problems(ask_servers=True) == []
        server.shutdown()
        server.server_close()
    with Study.open(study.path) as study:
        assert study.images() == [record]
        assert study.problems() == []
        (problem,) = study.problems(ask_servers=True)
        assert problem.kind == "moved"
        with pytest.raises(ImageError, match="cannot be reached"):
            ImagePool()(record)
        with pytest.raises(ImageError, match="does the server answer"):
            image.read(0, 0, 64, 64)
        study.set_split(record.id, "test")


@pytest.mark.parametrize(
    "url",
    ["https://ada:secret@host/a.ome.zarr", "https://host/a.ome.zarr?sig=secret", "s3://k:secret@b/a.zarr"],
)
def test_what_lets_somebody_in_is_never_kept(tmp_path, url):
    with Study.create(tmp_path / "far") as study:
        with pytest.raises(StudyError, match="password or a key") as told:
            study.add_image(url, height=1, width=1)
        assert "secret" not in str(told.value)
        assert study.images() == []


def test_labels_go_in_and_out_by_name_and_studies_are_brought_together(put, tmp_path):
    put(URL)
    with Study.create(tmp_path / "far") as study, Study.create(tmp_path / "near") as other:
        study.add_class("tumour")
        record = added(study)
        study.add_cells(
            pd.DataFrame({"image_id": [record.id], "row": [20.0], "col": [30.0], "class": ["tumour"]})
        )
        exchange.export_csv(study, tmp_path / "cells.csv")
        merge_study(other, study)
        assert other.images()[0].url == URL
        assert len(other.cells()) == 1
        exchange.import_csv(other, tmp_path / "cells.csv")
        assert set(other.cells()["image_id"]) == {other.images()[0].id}


def test_a_large_coarsest_level_is_sampled(put, monkeypatch):
    put(URL)
    put("memory://slides/two.ome.zarr", seed=1)
    monkeypatch.setattr(addresses, "SMALL", 100)
    first, second = (addresses.fingerprint(url) for url in (URL, "memory://slides/two.ome.zarr"))
    assert first != second
    assert first == addresses.fingerprint(URL)
