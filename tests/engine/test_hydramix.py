"""The engine with the method that ships: what holds for the small one holds for HydraMix-Net."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import cKDTree

from napari_mtssl.engine.checkpoint import load, load_method
from napari_mtssl.engine.dense import agreement, predict_image, stitch
from napari_mtssl.engine.events import Finished, LabelsChanged, Preview, PseudoLabels, Stepped, Validated
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.images import open_image
from napari_mtssl.learning.precision import has_bfloat16
from napari_mtssl.study import Study

SMALL = {"widen": 1, "batch_size": 4, "pool": 64, "steps": 12}
OPTIONS = TrainOptions(
    validate_every=6,
    checkpoint_every=6,
    report_seconds=0.0,
    pseudo_seconds=1e-9,
    preview_seconds=1e-6,
    threads=1,
)


def train(study_path, stop_at=None, **settings):
    session = TrainingSession(study_path, device="cpu", options=OPTIONS, **settings)
    session.control.viewport = (1, (0, 0, 80, 80))
    events = []
    for event in session.events():
        events.append(event)
        if event.step == stop_at:
            session.control.stop()
    assert isinstance(events[-1], Finished), events[-1]
    return session, events


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A study, and an uninterrupted run on it with all that was said."""
    import tiny_method

    folder = tmp_path_factory.mktemp("hydramix")
    path = folder / "discs.mtssl"
    with Study.create(path) as study:
        for name in ("red", "blue"):
            study.add_class(name)
        for number, split in enumerate(("train", "validation")):
            pixels, truth = tiny_method.draw_discs(150, 170, 20, seed=number)
            file = tiny_method.save_image(folder / f"image{number}.png", pixels)
            image = study.add_image(file, height=150, width=170, split=split)
            grid = pd.DataFrame({"row": np.arange(10.0, 150, 10), "col": np.arange(10.0, 150, 10)})
            grid = grid[cKDTree(truth[["row", "col"]]).query(grid)[0] > 14].assign(**{"class": "background"})
            study.add_cells(pd.concat([truth, grid], ignore_index=True).assign(image_id=image.id))
    return (path, *train(path, overrides=SMALL))


def weights(session):
    return load(session.run_dir / "last.safetensors").state


def test_everything_is_said(ended):
    _, _, events = ended
    assert [e.step for e in events if isinstance(e, Stepped)] == list(range(1, 13))
    assert [e.step for e in events if isinstance(e, Validated)] == [6, 12]
    assert {e.image_id for e in events if isinstance(e, Preview)} == {1}
    pseudo = next(e for e in events if isinstance(e, PseudoLabels)).frame
    assert pseudo["confidence"].between(0, 1).all() and set(pseudo["image_id"]) == {1}


def test_same_seed_same_weights(ended):
    path, session, _ = ended
    again, _ = train(path, overrides=SMALL)
    one, two = weights(session), weights(again)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("preset", ["robust", "paper"])
def test_resumed_equals_uninterrupted(ended, preset):
    path, session, _ = ended
    if preset == "paper":
        small = SMALL | {"depth": 10}
        session, _ = train(path, preset=preset, overrides=small)
        part, _ = train(path, preset=preset, overrides=small, stop_at=4)
    else:
        part, _ = train(path, overrides=SMALL, stop_at=4)
    resumed, events = train(path, resume=part.run_dir.name)
    assert events[0].step == 4
    one, two = weights(session), weights(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def predicted(ended):
    path, session, _ = ended
    method = load_method(session.run_dir, which="last", device="cpu")
    with Study.open(path) as study:
        image = open_image(study.images()[1].path)
    return method, image


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_stitched_tiles_equal_the_whole_image(predicted, sigma):
    method, image = predicted
    method.config = method.config.model_copy(update={"vote_sigma": sigma, "min_votes": 0.01})
    (whole,) = predict_image(method, image, tile=1000)
    parts = list(predict_image(method, image, tile=48, view=(50, 60, 90, 100)))
    for name, expected in whole.maps.items():
        joined = stitch({p.box: p.maps[name] for p in parts}, image.height, image.width, int(whole.scale[0]))
        np.testing.assert_allclose(joined, expected, atol=1e-5)
    cells = pd.concat([p.prediction.cells for p in parts]).sort_values(["row", "col"], ignore_index=True)
    expected = whole.prediction.cells.sort_values(["row", "col"], ignore_index=True)
    assert len(expected) > 5
    pd.testing.assert_frame_equal(cells, expected, atol=1e-4)


def test_dense_equals_patchwise_in_the_robust_preset(predicted):
    result = agreement(*predicted, n=200)
    # whole images are predicted in half precision where the processor has it, patches never
    limit = 0.02 if has_bfloat16(torch.device("cpu")) else 1e-4
    assert result.agreement == 1.0 and result.max_abs_logit_difference < limit


def test_a_correction_is_used_while_training(ended):
    path, _, _ = ended
    session = TrainingSession(path, device="cpu", overrides=SMALL | {"steps": 10**6}, options=OPTIONS)
    said = []
    with Study.open(path) as study:
        wrong = int(study.cells(image_id=1).query("`class` == 'red'")["id"].iloc[0])
        for event in session.events():
            if isinstance(event, Stepped) and event.step == 2:
                study.set_class([wrong], "blue")
            if isinstance(event, LabelsChanged):
                said.append((event.added, event.changed, event.removed))
                session.control.stop()
        study.undo()
    assert said == [(0, 1, 0)]
