"""The three doors of prediction: the same previews from a thread, a process of its own and a cluster."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from distributed import LocalCluster

from napari_mtssl.engine import checkpoint
from napari_mtssl.engine.predictor import Predictor
from napari_mtssl.engine.runners import RunnerError
from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import TissueMask, write_tissue
from napari_mtssl.methods.hydramix import HydraMix

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with weights that nobody trained."""
    config = HydraMix.configure("robust", depth=10, widen=1, turns=1)
    torch.manual_seed(0)
    method = HydraMix(config, {"cell": ("background", "tumour", "lymphocyte")}, torch.device("cpu"))
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder, "best", method, method.optimiser(), 0)
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide")
    return write_slide(made_slide(640, 640, period=128, tissue=0.4), folder / "made.svs", tile=256)


@pytest.fixture
def as_slide(monkeypatch):
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)


def cells(previews):
    frame = pd.concat([event.prediction.cells for event in previews])
    return frame.sort_values(["row", "col"]).reset_index(drop=True)


def predicted(predictor, path, folder, kept, **settings):
    return predictor.previews(open_image(path), 3, folder, kept.append, **settings)


def test_a_process_predicts_the_same_and_its_crash_is_a_sentence(run, path, tmp_path, monkeypatch):
    kept = []
    with Predictor(run) as here:
        field = list(predicted(here, path, tmp_path / "none", kept))
        monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
        slide = list(predicted(here, path, tmp_path / "here", kept))
    monkeypatch.undo()
    assert len(field) == len(slide) == 9
    with Predictor(run, "process") as there:
        said = list(predicted(there, path, tmp_path / "none", kept, view=(500, 500, 700, 700)))
        assert {event.box for event in said} == {event.box for event in field}
        assert said[0].box in [(512, 512, 640, 640), (256, 256, 512, 512)]
        pd.testing.assert_frame_equal(cells(said), cells(field), check_exact=False, atol=1e-4)
        corrected = open_image(path)
        corrected.tissue_file = tmp_path / "tissue.png"
        write_tissue(TissueMask(np.array([[0, 1]], bool), 640, 640), corrected.tissue_file)
        part = list(there.previews(corrected, 3, tmp_path / "none", kept.append))
        assert {event.box for event in part} == {event.box for event in field}
        assert [event.done for event in part] == list(range(1, 10))
        glass = [event for event in part if event.box[3] <= 320]
        assert part[-len(glass) :] == glass and not any(len(event.prediction.cells) for event in glass)
        monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
        part = []
        with pytest.raises(RunnerError, match="has ended"):
            for event in predicted(there, path, tmp_path / "p", kept):
                part.append(event)
                if event.done == 3:
                    for pid in there._client.run(os.getpid).values():
                        os.kill(pid, signal.SIGKILL)
    assert 3 <= len(part) < 9
    with Predictor(run) as here:
        rest = list(predicted(here, path, tmp_path / "p", kept))
    assert len(part) + len(rest) == 9
    pd.testing.assert_frame_equal(cells(part + rest), cells(slide), check_exact=False, atol=1e-4)


def test_a_cluster_predicts_a_slide_until_it_is_cancelled(run, path, tmp_path, as_slide):
    kept, stop = [], []
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0
    ) as cluster:
        address = cluster.scheduler_address
        with Predictor(run, address, cancelled=lambda: bool(stop)) as predictor:
            events = predicted(predictor, path, tmp_path / "p", kept)
            first = [next(events) for _ in range(4)]
            stop.append(True)
            assert list(events) == []
            assert len(kept) == len(first) == 4
            stop.clear()
            rest = list(predicted(predictor, path, tmp_path / "p", kept))
    assert len(first) + len(rest) == 9
    assert len({event.box for event in first + rest}) == 9
    assert rest[-1].done == 9


def test_the_order_follows_who_looks_elsewhere(run, path, tmp_path, as_slide):
    places = [(0, 0, 100, 100)]
    with Predictor(run) as here:
        events = predicted(here, path, tmp_path / "p", [], view=lambda: places[-1])
        assert next(events).box[:2] == (0, 0)
        places.append((600, 600, 700, 700))
        assert next(events).box[:2] == (512, 512)
        assert len(list(events)) == 7
