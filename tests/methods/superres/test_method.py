"""Label super-resolution with the engine: it learns outlines that nobody drew."""

import numpy as np
import pytest
import torch
from glands import SIDE, TINY, add_image, make_study

from napari_mtssl.engine.checkpoint import load_method
from napari_mtssl.engine.dense import predict_image, stitch
from napari_mtssl.engine.events import Finished, LabelsChanged, Stepped, Validated
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.evaluation.outlines import overlap
from napari_mtssl.images import ImagePool, open_image
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres import SuperRes
from napari_mtssl.methods.superres.bank import Crops
from napari_mtssl.methods.superres.objective import Objective
from napari_mtssl.study import Grid, Study

OPTIONS = TrainOptions(report_seconds=0.0, pseudo_seconds=0, preview_seconds=0, threads=1)


def train(path, **overrides):
    session = TrainingSession(path, "superres", device="cpu", overrides=TINY | overrides, options=OPTIONS)
    events = list(session.events())
    assert isinstance(events[-1], Finished), events[-1]
    return session, events


@pytest.fixture(scope="module")
def trained(study_path):
    return train(study_path)[0]


def samples(path, **overrides):
    """The method and its samples of a study, without training."""
    with Study.open(path) as study:
        config = SuperRes.configure(**(TINY | overrides))
        method = SuperRes(config, SuperRes.vocabulary_of(study), torch.device("cpu"))
        bank = method.samples(study, ImagePool(), "train")
        method.prepare(bank)
        return method, bank


@pytest.mark.slow
def test_outlines_are_finer_than_the_blocks(trained, made):
    method = load_method(trained.run_dir)
    counts = blocky = None
    for truth in made[2:]:
        pixels = torch.from_numpy(truth.image.transpose(2, 0, 1).copy())
        found = method.probabilities(pixels)[0, 1].numpy() > 0.5
        mine = overlap(found, truth.mask == 1)
        shares = (
            truth.shares(SIDE).repeat(SIDE, 0).repeat(SIDE, 1)[: truth.mask.shape[0], : truth.mask.shape[1]]
        )
        coarse = overlap(shares > 0.5, truth.mask == 1)
        counts, blocky = (mine, coarse) if counts is None else (counts + mine, blocky + coarse)
    assert counts.dice > blocky.dice, (counts.dice, blocky.dice)


def test_tiles_have_no_seams(trained, study_path):
    method = load_method(trained.run_dir)
    with Study.open(study_path) as study:
        image = open_image(study.images()[0].path)
    unit = method.geometry.unit
    parts = {t.box: t.prediction.mask for t in predict_image(method, image, tile=64)}
    whole = {t.box: t.prediction.mask for t in predict_image(method, image, tile=1024)}
    assert len(parts) == 12 and len(whole) == 1 and unit > 1
    one, many = (stitch(tiles, image.height, image.width, 1) for tiles in (whole, parts))
    assert one.shape == (2, image.height, image.width)
    assert np.abs(one - many).max() < 1e-5
    assert np.allclose(one.sum(0), 1, atol=1e-5)
    tile = next(iter(predict_image(method, image)))
    uncertainty = tile.prediction.pictures["uncertainty"]
    assert uncertainty.min() >= 0 and uncertainty.max() <= 1 + 1e-6


def test_labels_painted_while_it_trains_count(made, tmp_path):
    path = make_study(tmp_path / "live.mtssl", made[:1])
    with Study.open(path) as study:
        first = study.images()[0].id
        study.set_blocks(first, {(0, j): None for j in range(3)})
        session = TrainingSession(
            path, "superres", device="cpu", overrides=TINY | {"steps": 400}, options=OPTIONS
        )
        changed = None
        for event in session.events():
            if isinstance(event, Stepped) and event.step == 3:
                study.set_blocks(first, {(0, 0): "0-20"})
                study.paint_mask(first, 10, 10, np.full((8, 8), study.classes("mask")[1].code, np.uint16))
            if isinstance(event, LabelsChanged):
                changed = event
                session.control.stop()
        assert changed is not None and changed.added == 2 and changed.removed == 0


def test_validation_scores_masks_and_counts(made, tmp_path):
    path = make_study(tmp_path / "held.mtssl", made[:1])
    with Study.open(path) as study:
        held = add_image(study, tmp_path / "held.png", made[1], split="validation")
        code = study.class_named("gland", "mask").code
        study.paint_mask(held.id, 0, 0, (made[1].mask * code).astype(np.uint16))
        study.set_mask_complete(held.id, True)
    session = TrainingSession(
        path,
        "superres",
        device="cpu",
        overrides=TINY | {"steps": 2},
        options=TrainOptions(1, 1, preview_seconds=0, threads=1),
    )
    scores = [event.scores for event in session.events() if isinstance(event, Validated)]
    assert scores and list(scores[0]) == ["dice", "counts"]
    assert all(0 <= value <= 1 for value in scores[0].values())


def test_steps_repeat_and_a_resumed_run_goes_on(study_path):
    method, bank = samples(study_path)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        losses = method.step(bank, 0.5, 4).losses
        states.append({name: float(value.detach()) for name, value in losses.items()})
        method._memory.bank.used.zero_()
        method._memory.bank.cursor.zero_()
        for module in method.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
    assert states[0] == pytest.approx(states[1])
    assert set(states[0]) == {"statistics", "guesses"}
    other, _ = samples(study_path, seed=1)
    other.load_state(method.state())
    assert all(
        torch.equal(a, b) for a, b in zip(method.state().values(), other.state().values(), strict=True)
    )


def test_bank_counts_blocks_as_the_study_has_them(study_path, made):
    _, bank = samples(study_path)
    assert len(bank.coarse) == 2 * 6 * 7 and bank.downsample == 1
    assert bank.area.tolist() == [SIDE * SIDE] * 84
    crops = bank.around(torch.tensor([0, 50]), 128, turned=False)
    inside = torch.bincount(crops.ids.ravel(), minlength=len(crops.coarse) + 1)[1:]
    assert len(crops.coarse) >= 2 and inside.tolist() == [SIDE * SIDE] * len(crops.coarse)


def test_a_fifth_class_and_odd_blocks_on_sixteen_bits(made, tmp_path):
    """Coarse classes of one's own, blocks that are not square, in micrometres, three exact classes."""
    path = make_study(tmp_path / "odd.mtssl", made[:1], sixteen=True)
    with Study.open(path) as study:
        image = study.images()[0]
        study.set_grid(image.id, Grid(25.3, 40.7, -3.0, 5.5), erase=True)
        study.add_class("mucus", kind="mask")
        study.add_class("mixed", kind="block")
        study.set_blocks(image.id, {(i, j): "mixed" for i in range(1, 5) for j in range(4)})
        study.add_region(image.id, np.array([[100.0, 100], [100, 150], [150, 120]]), "mixed")
    with pytest.raises(MethodError, match="Nobody has said what a block of the class 'mixed' contains"):
        samples(path)
    import pandas as pd

    rows = [("mixed", k, m, 0.1, "expert") for k, m in (("gland", 0.3), ("mucus", 0.2))]
    with Study.open(path) as study:
        study.set_statistics(
            pd.DataFrame(rows, columns=["block_class", "mask_class", "mean", "spread", "source"])
        )
    method, bank = samples(path)
    assert method.mask_classes == ("background", "gland", "mucus")
    mixed = method.block_classes.index("mixed")
    assert torch.allclose(bank.eta[mixed], torch.tensor([0.5, 0.3, 0.2]))
    assert len(bank.coarse) == 17 and bank.fields[0].pixels.dtype == torch.float32
    torch.manual_seed(0)
    out = method.step(bank, 0.5, 4)
    total = sum(out.weights[name] * loss for name, loss in out.losses.items())
    total.backward()
    assert torch.isfinite(total) and set(out.losses) == {"statistics", "guesses"}


def test_dark_sixteen_bits_are_seen_as_bright_as_eight(made, tmp_path):
    """Twelve bits of a camera fill a sixteenth of sixteen: stain and brightness must not drown them."""
    one, bank = samples(make_study(tmp_path / "eight.mtssl", made[:1]))
    two, dark = samples(make_study(tmp_path / "dark.mtssl", made[:1], sixteen=True))
    assert float(one._memory.gain) == 1.0 and 10 < float(two._memory.gain) < 25
    assert dark.fields[0].pixels.max() < 0.07
    drawn = []
    for method, source in ((one, bank), (two, dark)):
        torch.manual_seed(3)
        drawn.append(method._draw(source, 2).images)
    assert abs(float(drawn[0].mean() - drawn[1].mean())) < 0.05
    assert float(torch.corrcoef(torch.stack([d.flatten() for d in drawn]))[0, 1]) > 0.99
    other, _ = samples(tmp_path / "eight.mtssl", seed=1)
    other.load_state(two.state())
    tile = dark.fields[0].pixels[:, :128, :128]
    assert torch.equal(other.probabilities(tile), two.probabilities(tile))
    before = {k: v for k, v in one.state().items() if k != "memory.gain"}  # a run of an earlier version
    other.load_state(before)
    assert float(other._memory.gain) == 1.0


def test_large_blocks_are_seen_at_a_coarser_resolution(made, tmp_path):
    path = make_study(tmp_path / "large.mtssl", made[:1], side=150)
    method, bank = samples(path)
    assert bank.downsample == 2 == method.downsample == method.geometry.stride
    assert method.geometry.align == 2 * method.network.align
    with Study.open(path) as study:
        image = open_image(study.images()[0].path)
    parts = {t.box: t.prediction.mask for t in predict_image(method, image, tile=64)}
    whole = {t.box: t.prediction.mask for t in predict_image(method, image, tile=1024)}
    one, many = (stitch(tiles, image.height, image.width, 2) for tiles in (whole, parts))
    assert one.shape == (2, 96, 112) and np.abs(one - many).max() < 1e-5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"widths": "8-x"}, "rite two to seven"), ({"crop": 100}, "take a multiple of"), ({"stem": 3}, "stem")],
)
def test_settings_that_cannot_be(study_path, overrides, message):
    with pytest.raises(MethodError, match=message):
        samples(study_path, **overrides)


def test_a_network_that_knows_a_class_that_was_removed_says_so(made, tmp_path):
    path = make_study(tmp_path / "g.mtssl", made[:1])
    method, _ = samples(path)
    with Study.open(path) as study:
        name = study.classes("mask")[-1].name
        study.add_class("mucus", kind="mask")
        study.remove_class(name, "mask", into="mucus")
        with pytest.raises(MethodError, match=f"'{name}', which this network has learnt, was removed"):
            method.samples(study, ImagePool(), "train")
        study.undo()
        assert method.samples(study, ImagePool(), "train").n_labelled


def test_a_study_without_blocks_or_classes(tmp_path, made):
    with Study.create(tmp_path / "empty.mtssl") as study:
        with pytest.raises(MethodError, match="no exact class to outline"):
            SuperRes(SuperRes.configure(), SuperRes.vocabulary_of(study), torch.device("cpu"))
        study.add_class("gland", kind="mask")
    with pytest.raises(MethodError, match="lay a grid over an image"):
        samples(tmp_path / "empty.mtssl")


def test_free_guesses_teach_outside_labelled_blocks_only_what_is_certain():
    torch.manual_seed(0)
    ids = torch.zeros(1, 8, 8, dtype=torch.long)
    ids[:, :4] = 1
    crops = Crops(torch.rand(1, 3, 8, 8), ids, torch.zeros(1, dtype=torch.long), torch.full((1, 8, 8), -1))
    eta, rho = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1, 0.1]])
    guess = torch.zeros(1, 2, 8, 8)
    guess[:, 1, 4:6] = 5.0  # certain, and in no block
    for free, expected in ((1.0, {0, 1, 2, 3}), (0.9, {0, 1, 2, 3, 4, 5})):
        logits = torch.randn(1, 2, 8, 8, requires_grad=True)
        objective = Objective(SuperRes.configure(guess_free=free))
        objective._guesses(logits, guess, crops, eta, rho).backward()
        rows = logits.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
        assert set(rows) == expected


@pytest.mark.parametrize("settings", [{"loss": "intra"}, {"loss": "inter", "divergence": "w2"}, {}])
def test_paper_preset_steps(study_path, settings):
    with Study.open(study_path) as study:
        config = SuperRes.configure(
            "paper", batch_size=8, group=4, crop=SIDE, widths="4-8", steps=2, **settings
        )
        method = SuperRes(config, SuperRes.vocabulary_of(study), torch.device("cpu"))
        bank = method.samples(study, ImagePool(), "train")
    method.prepare(bank)
    optimiser = method.optimiser()
    assert isinstance(optimiser, torch.optim.RMSprop) and method.learning_rate(0.9) == 1e-3
    out = method.step(bank, 0.0, 8)
    assert set(out.losses) == {"statistics"} and torch.isfinite(out.losses["statistics"])


def test_half_precision_learns_the_same(study_path, monkeypatch):
    # has_bfloat16 says whether it is quick here, not whether it can be computed
    monkeypatch.setattr("napari_mtssl.learning.precision.has_bfloat16", lambda device: True)
    losses = {}
    for precision in ("float32", "auto"):
        method, bank = samples(study_path, precision=precision)
        torch.manual_seed(3)
        out = method.step(bank, 0.5, 4)
        assert all(value.dtype == torch.float32 for value in out.losses.values())
        losses[precision] = {name: float(value.detach()) for name, value in out.losses.items()}
    assert losses["auto"] != losses["float32"]
    assert losses["auto"] == pytest.approx(losses["float32"], rel=0.03, abs=1e-3)
