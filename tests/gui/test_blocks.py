"""Tissue in a real window: a grid, painted blocks, statistics, corrections; the study always knows."""

import numpy as np
import pytest

from napari_mtssl.engine.events import Preview
from napari_mtssl.gui.layers import LABELS
from napari_mtssl.gui.panels.classes import NAME
from napari_mtssl.gui.panels.guess import GuessBlocks
from napari_mtssl.gui.panels.statistics import MEAN, SPREAD
from napari_mtssl.gui.rasters import BLOCKS, PAINT, PREDICTED, PROBABILITY
from napari_mtssl.gui.status import StatusLine
from napari_mtssl.gui.stored import keep, of_today
from napari_mtssl.gui.tasks import BLOCK, MASK, TISSUE
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.methods.superres.statistics import bin_statistics
from napari_mtssl.study import Grid, Study

pytestmark = pytest.mark.gui


@pytest.fixture
def tissue_path(study_path):
    """A study with a grid of 16 pixels on the first image, coarse and exact classes."""
    with Study.open(study_path) as study:
        study.add_class("0-20", kind="block", key="1")
        study.add_class("80-100", kind="block", key="2")
        study.add_class("tumour", kind="mask", key="1", colour="#cc0000")
        study.set_grid(study.images()[0].id, Grid(16, 16))
    return study_path


@pytest.fixture
def answer_bins(monkeypatch):
    """Answer the question for bins: with these edges, or as it is asked."""
    from napari_mtssl.gui.panels.bins import BinsDialog

    answers = {"edges": None, "exact": None, "good": True}

    def answer(dialog):
        if answers["edges"] is not None:
            dialog.edges.setText(answers["edges"])
        if answers["exact"] is not None:
            dialog.exact.setCurrentText(answers["exact"])
        answers["said"] = dialog.said.text()
        answers["asked_size"] = dialog.size is not None
        return answers["good"]

    monkeypatch.setattr(BinsDialog, "exec", answer)
    return answers


@pytest.fixture
def dock(make_dock, tissue_path):
    return make_dock(tissue_path)


def press(layer, key):
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


def stroke(dock, name, places, value=None):
    """Paint as napari's brush does: several places, one stroke."""
    layer = dock.rasters.found[name].__wrapped__
    with layer.block_history():
        for place in places:
            layer.paint(place, layer.selected_label if value is None else value)
    return layer


def stored_blocks(dock):
    with Study.open(dock.workspace.study.path) as study:
        blocks = study.blocks(dock.workspace.image.id)
    return {(i, j): name for i, j, name in blocks.itertuples(index=False)}


def predict(dock, probs, scale=(1.0, 1.0), box=(0, 0, 96, 96), pictures=None):
    """Send a prediction as a run does."""
    image = dock.workspace.image.id
    event = Preview(1, image, box, Prediction(mask=probs, pictures=pictures or {}), scale, 1, 1)
    names = [item.name for item in dock.workspace.study.classes("mask")][: len(probs)]
    event = of_today(dock.workspace.study, names, event)
    dock.runner.event.emit(event)
    dock.draw_now()


def test_a_study_with_blocks_opens_as_tissue_without_layers_for_cells(dock):
    assert dock.workspace.task is TISSUE
    assert [layer.name for layer in dock.viewer.layers] == ["first.png", PREDICTED, BLOCKS, PAINT]
    assert LABELS not in dock.viewer.layers
    assert dock.label_panel.blocks.isVisibleTo(dock.label_panel)
    assert not dock.label_panel.cells.isVisibleTo(dock.label_panel)
    assert dock.study_panel.task.currentText() == "Tissue"


def test_a_stroke_over_blocks_is_one_edit_on_disk_and_can_be_undone(dock):
    dock.label_panel.blocks.block_tools.buttons["paint"].click()
    assert dock.viewer.layers.selection.active.name == BLOCKS
    press(dock.rasters.found[BLOCKS], "2")
    stroke(dock, BLOCKS, [(0, 0), (0, 1), (1, 1)])
    painted = {(0, 0): "80-100", (0, 1): "80-100", (1, 1): "80-100"}
    assert stored_blocks(dock) == painted
    press(dock.rasters.found[BLOCKS], "1")
    stroke(dock, BLOCKS, [(0, 0)])
    assert stored_blocks(dock)[(0, 0)] == "0-20"
    press(dock.rasters.found[BLOCKS], "Control-Z")
    assert stored_blocks(dock) == painted
    codes = {item.name: item.code for item in dock.workspace.classes(BLOCK)}
    assert dock.rasters.found[BLOCKS].data[0, 0] == codes["80-100"]
    press(dock.rasters.found[BLOCKS], "Control-Z")
    assert stored_blocks(dock) == {}
    assert not dock.rasters.found[BLOCKS].data.any()


def test_blocks_are_filled_and_erased(dock):
    layer = dock.rasters.found[BLOCKS].__wrapped__
    layer.fill((2, 2), layer.selected_label)
    assert len(stored_blocks(dock)) == 36
    stroke(dock, BLOCKS, [(0, 0)], 0)
    assert len(stored_blocks(dock)) == 35


def test_a_label_that_is_no_class_is_refused_in_words(dock, told):
    stroke(dock, BLOCKS, [(0, 0)], 77)
    assert any("not saved" in message and "77" in message for _, message in told)
    assert not dock.rasters.found[BLOCKS].data.any()
    assert stored_blocks(dock) == {}


def test_the_grid_lies_on_the_image_also_with_odd_sizes_and_micrometres(dock, told):
    workspace = dock.workspace
    workspace.study.add_image(
        workspace.image.path.with_name("second.png"), height=96, width=96, pixel_size_um=0.5
    )
    workspace.refresh_image()
    workspace.select_image(workspace.study.images()[1].id)
    page = dock.label_panel.blocks
    assert "no grid" in page.hint.text()
    page.grid.size.height_box.setValue(20.5)
    page.lay_button.click()
    layer = dock.rasters.found[BLOCKS]
    assert layer.data.shape == (5, 5)
    world = layer.data_to_world((0, 0))
    scale = dock.layers.world[0][0]
    np.testing.assert_allclose(world, [(20.5 / 2 - 0.5) * scale] * 2)
    np.testing.assert_allclose(layer.scale, [20.5 * scale] * 2)


def test_an_image_of_sixteen_bits_gets_blocks_in_micrometres(make_dock, tmp_path):
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 4000, (60, 90), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", pixels)
    with Study.create(tmp_path / "deep.mtssl") as study:
        for name in ("none", "some", "half", "much", "all"):
            study.add_class(name, kind="block")
        study.add_image(tmp_path / "deep.tif", height=60, width=90, pixel_size_um=0.25)
        path = study.path
    dock = make_dock(path)
    page = dock.label_panel.blocks
    page.grid.size.unit.setCurrentText("µm")
    page.grid.size.height_box.setValue(5)
    page.lay_button.click()
    grid = dock.workspace.study.grid(dock.workspace.image.id)
    assert (grid.height, grid.width) == (20, 20)
    press(dock.rasters.found[BLOCKS], "5")
    stroke(dock, BLOCKS, [(2, 4)])
    assert stored_blocks(dock) == {(2, 4): "all"}
    page.classes.refresh_counts()
    assert page.classes.table.item(4, 3).text() == "1"


def test_another_grid_asks_before_it_erases(dock, monkeypatch):
    from qtpy.QtWidgets import QMessageBox

    stroke(dock, BLOCKS, [(0, 0)])
    page = dock.label_panel.blocks
    page.grid.size.height_box.setValue(32)
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.No)
    page.lay_button.click()
    assert len(stored_blocks(dock)) == 1
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.Yes)
    page.lay_button.click()
    assert stored_blocks(dock) == {}
    assert dock.rasters.found[BLOCKS].data.shape == (3, 3)
    dock.label_panel.undo()
    assert len(stored_blocks(dock)) == 1
    assert dock.rasters.found[BLOCKS].data.shape == (6, 6)


def test_paint_is_an_exact_label_and_its_stroke_one_edit(dock):
    dock.label_panel.blocks.mask_tools.buttons["paint"].click()
    assert dock.workspace.kind == MASK
    layer = stroke(dock, PAINT, [(10, 10), (10, 40)])
    code = next(item.code for item in dock.workspace.classes(MASK) if item.name == "tumour")
    with Study.open(dock.workspace.study.path) as study:
        np.testing.assert_array_equal(study.mask(dock.workspace.image.id), layer.data)
    assert layer.data[10, 40] == code
    press(dock.rasters.found[PAINT], "9")
    stroke(dock, PAINT, [(80, 80)])
    dock.label_panel.undo()
    dock.label_panel.undo()
    assert not dock.rasters.found[PAINT].data.any()


def test_a_tile_that_comes_after_its_class_was_taken_back_is_left_out(dock):
    dock.workspace.study.remove_class("tumour", "mask")
    dock.workspace.classes_edited()
    predict(dock, np.full((2, 96, 96), 0.5, np.float32))
    assert dock.rasters.predicted is None


def test_what_a_network_said_stays_with_its_classes(dock):
    study, workspace = dock.workspace.study, dock.workspace
    image = workspace.image.id
    probs = np.stack([np.full((96, 96), 0.2), np.full((96, 96), 0.8)]).astype(np.float32)
    event = Preview(1, image, (0, 0, 96, 96), Prediction(mask=probs), (1.0, 1.0), 1, 1)
    keep(study, "run", ("background", "tumour"), event)
    workspace.image_changed.emit()
    assert dock.rasters.areas() == {"background": 0, "tumour": 96 * 96}
    study.add_class("mucus", kind="mask")
    study.remove_class("tumour", "mask")
    workspace.everything_changed()
    assert dock.rasters.predicted is None and dock.rasters.areas() == {}
    assert not dock.rasters.found[PREDICTED].data.any()
    assert study.mask_prediction(image) is None  # for exports, too
    dock.deeds.use_predicted()
    assert not study.mask(image).any()
    dock.label_panel.undo()
    assert dock.rasters.areas() == {"background": 0, "mucus": 0, "tumour": 96 * 96}
    dock.label_panel.redo()
    dock.runner.event.emit(of_today(study, ("background", "tumour"), event))  # of a network that knew it
    dock.draw_now()
    assert dock.rasters.areas() == {"background": 96 * 96, "mucus": 0}


def test_a_layer_goes_without_its_brush(dock):
    dock.label_panel.blocks.mask_tools.buttons["paint"].click()
    layer = dock.rasters.found[PAINT]
    assert layer.mode == "paint"
    dock.rasters.remove(PAINT)  # with the brush on, napari drew its circle once more and crashed
    assert layer.mode == "pan_zoom"


def test_layers_of_a_study_that_is_gone_stay_to_be_saved(dock, told, wait):
    import shutil

    stroke(dock, PAINT, [(5, 5)])
    stroke(dock, BLOCKS, [(1, 1)])
    shutil.rmtree(dock.workspace.study.path)
    wait(lambda: dock.workspace.study is None, 10)
    names = [layer.name for layer in dock.viewer.layers]
    assert names == ["first.png", "Blocks of a study that is gone", "Mask of a study that is gone"]
    assert dock.viewer.layers[-1].data.any() and dock.viewer.layers[1].data.any()
    assert dock.findChild(StatusLine).active.text() == ""


def test_the_size_that_is_shown_is_the_one_that_is_laid(dock, monkeypatch, told):
    from qtpy.QtWidgets import QMessageBox

    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: asked.append(a[2]))
    study, image, box = dock.workspace.study, dock.workspace.image.id, dock.label_panel.blocks.grid
    study.set_pixel_size(image, 0.2528)
    study.set_grid(image, Grid(20 / 0.2528, 20 / 0.2528))
    dock.workspace.everything_changed()
    stroke(dock, BLOCKS, [(0, 0)])
    for unit in ("pixels", "µm", "pixels"):
        box.size.unit.setCurrentText(unit)
        box.lay_button.click()
    assert not asked and study.grid(image) == Grid(20 / 0.2528, 20 / 0.2528)
    box.size.height_box.setValue(0.5)
    box.lay_button.click()
    assert not asked and "make no grid" in told[-1][1]
    box.size.height_box.setValue(30)
    box.lay_button.click()
    assert asked == ["Erase the 1 block of first.png with a class? Undo brings them back."]


def test_blocks_at_the_edge_are_looked_at_without_what_is_not_there(dock):
    from napari_mtssl.gui.panels.looking import some_blocks

    study, image = dock.workspace.study, dock.workspace.image.id
    study.set_grid(image, Grid(40, 40, row0=-10))
    study.set_blocks(image, {(0, 0): "0-20", (1, 2): "0-20"})
    assert [pixels.shape[:2] for _, pixels in some_blocks(dock.workspace, "0-20")] == [(30, 40), (40, 16)]


def test_masks_that_went_out_come_back_in(dock, tmp_path):
    from napari_mtssl.study.mask_files import export_masks
    from napari_mtssl.study.mask_zarr import export_mask_zarr

    study, image, menu = dock.workspace.study, dock.workspace.image.id, dock.label_panel.blocks.import_button
    stroke(dock, PAINT, [(5, 5), (40, 60)])
    painted = study.mask(image).copy()
    export_masks(study, tmp_path / "png")
    export_mask_zarr(study, image, tmp_path / "one.zarr")
    for text, path in (
        ("Exact classes: masks, a folder of PNGs …", tmp_path / "png"),
        ("Exact classes of this image: OME-Zarr labels …", tmp_path / "one.zarr"),
    ):
        study.undo()
        dock.workspace.everything_changed()
        assert not dock.rasters.found[PAINT].data.any()
        menu.read(text, path)
        assert (study.mask(image) == painted).all() and (dock.rasters.found[PAINT].data == painted).all()


def test_a_bin_that_is_renamed_to_another_one_means_that(dock):
    study, table = dock.workspace.study, dock.label_panel.blocks.classes.table
    study.set_statistics(bin_statistics(["0-20", "80-100"], ["background", "tumour"], "tumour"))

    def means():
        known = study.statistics()
        return known[known["mask_class"] == "tumour"].set_index("block_class")["mean"].to_dict()

    table.item(0, NAME).setText("0-10")
    assert means() == pytest.approx({"0-10": 0.05, "80-100": 0.9})
    dock.label_panel.undo()
    assert means() == pytest.approx({"0-20": 0.1, "80-100": 0.9})
    table.item(0, NAME).setText("scant")
    assert means() == pytest.approx({"scant": 0.1, "80-100": 0.9})


def test_bins_of_a_second_class_are_not_said_to_be_added(dock, answer_bins, told):
    study, page = dock.workspace.study, dock.label_panel.blocks
    answer_bins["edges"] = "0, 20, 100"
    page.add_bins()
    assert "1 class was added: the per cent of tumour in a block." in told[-1][1]
    study.add_class("mucus", kind="mask")
    answer_bins["exact"] = "mucus"
    before = study.edits()["what"].tolist()
    page.add_bins()
    assert "These classes mean the per cent of tumour" in told[-1][1]
    assert study.edits()["what"].tolist() == before


def test_tiles_of_a_predicted_mask_appear_where_they_belong(dock):
    top = np.stack([np.full((24, 48), 0.2), np.full((24, 48), 0.8)]).astype(np.float32)
    doubt = {"uncertainty": np.full((24, 48), 0.5, np.float32)}
    predict(dock, top, (2.0, 2.0), (48, 0, 96, 96), doubt)
    code = next(item.code for item in dock.workspace.classes(MASK) if item.name == "tumour")
    shown = dock.rasters.found[PREDICTED].data
    assert shown.shape == (48, 48)
    assert (shown[24:] == code).all()
    assert not shown[:24].any()
    np.testing.assert_allclose(dock.rasters.found[PROBABILITY].data[24:], 0.8)
    np.testing.assert_allclose(dock.rasters.found["Uncertainty"].data[24:], 0.5)
    assert dock.rasters.areas() == {"background": 0, "tumour": 48 * 96}
    np.testing.assert_allclose(dock.rasters.found[PREDICTED].data_to_world((0, 0)), (0.5, 0.5))


def test_the_predicted_mask_fills_what_nobody_painted_in_one_edit(dock, told):
    dock.deeds.use_predicted()
    assert any("no predicted mask" in message for _, message in told)
    stroke(dock, PAINT, [(5, 5)])
    before = dock.rasters.found[PAINT].data.copy()
    probs = np.zeros((2, 96, 96), np.float32)
    probs[0] = 1
    probs[:, 50:] = [[[0.1]], [[0.9]]]
    predict(dock, probs)
    dock.mask_review.use_predicted.emit()
    codes = {item.name: item.code for item in dock.workspace.classes(MASK)}
    data = dock.rasters.found[PAINT].data
    assert (data[50:] == codes["tumour"]).all()
    assert data[5, 5] == codes["tumour"]
    assert data[30, 30] == codes["background"]
    dock.label_panel.undo()
    np.testing.assert_array_equal(dock.rasters.found[PAINT].data, before)


def test_the_suggested_place_is_where_the_mask_is_least_sure(dock, told):
    probs = np.zeros((2, 96, 96), np.float32)
    probs[0], probs[1] = 0.95, 0.05
    probs[:, 70:75, 20:25] = 0.5
    predict(dock, probs)
    dock.label_panel.suggest_button.click()
    row, col = dock.viewer.scene.camera.center[-2:]
    assert 69 <= row <= 75
    assert 19 <= col <= 25


def test_statistics_are_typed_floored_and_drawn(dock, told):
    page = dock.label_panel.blocks
    page.statistics_section.expand(animate=False)
    editor = page.statistics
    assert editor.table.rowCount() == 2
    editor.defaults_button.click()
    assert float(editor.table.item(0, MEAN).text()) == pytest.approx(10)
    editor.table.item(1, SPREAD).setText("0")
    assert any("3 %" in message for _, message in told)
    assert not editor.floored.isVisibleTo(editor)
    table = dock.workspace.study.statistics().set_index(["block_class", "mask_class"])
    assert table.loc[("80-100", "tumour"), "spread"] == pytest.approx(0.03)
    assert table.loc[("80-100", "tumour"), "source"] == "expert"
    editor.table.item(1, MEAN).setText("85")
    table = dock.workspace.study.statistics().set_index(["block_class", "mask_class"])
    assert table.loc[("80-100", "background"), "mean"] == pytest.approx(0.15)
    editor.table.item(1, MEAN).setText("many")
    assert any("no number" in message for _, message in told)
    assert editor.table.item(1, MEAN).text() == "85"
    dock.label_panel.undo()
    assert editor.table.item(1, MEAN).text() == "90"


def test_statistics_are_measured_in_painted_blocks(dock, told):
    editor = dock.label_panel.blocks.statistics
    editor.show_now(True)
    editor.measure_button.click()
    assert any("No block" in message for _, message in told)
    study, image = dock.workspace.study, dock.workspace.image.id
    code = next(item.code for item in study.classes("mask") if item.name == "tumour")
    study.set_blocks(image, {(0, 0): "0-20", (0, 1): "0-20"})
    study.paint_mask(image, 0, 0, np.full((4, 16), code, np.uint16))  # a quarter of the first block
    study.set_mask_complete(image, True)
    editor.measure_button.click()
    table = study.statistics().set_index(["block_class", "mask_class"])
    assert table.loc[("0-20", "tumour"), "mean"] == pytest.approx((0.25 + 0 + 2 * 0.1) / 4)
    assert table.loc[("0-20", "tumour"), "source"] == "measured"
    assert "2 blocks" in editor.table.item(0, MEAN).toolTip()


def test_an_expert_looks_at_blocks_and_says_how_much(dock, told, monkeypatch):
    from napari_mtssl.gui.panels.looking import LookDialog

    editor = dock.label_panel.blocks.statistics
    editor.show_now(True)
    editor.look_button.click()
    assert any("No block of a grid has the class 0-20" in message for _, message in told)
    study = dock.workspace.study
    study.set_blocks(1, {(i, j): "80-100" for i in range(4) for j in range(5)})
    seen = []

    def judge(dialog):
        seen.append([box.value() for box in dialog.shares])
        assert not dialog.buttons.button(dialog.buttons.StandardButton.Ok).isEnabled()
        for box, share in zip(dialog.shares, (80, 90, 100, 90), strict=False):
            box.setValue(share)
        assert "from 4 blocks" in dialog.said.text()
        return True

    monkeypatch.setattr(LookDialog, "exec", judge)
    editor.table.setCurrentCell(1, MEAN)
    editor.look_button.click()
    assert seen == [[-1] * 12]
    table = study.statistics().set_index(["block_class", "mask_class"])
    assert table.loc[("80-100", "tumour"), "mean"] == pytest.approx(0.9)
    assert table.loc[("80-100", "tumour"), "source"] == "expert"
    assert float(editor.table.item(1, MEAN).text()) == pytest.approx(90)
    dock.label_panel.undo()
    assert not len(study.statistics())


def test_spreads_that_are_too_small_in_a_file_are_said(dock, tmp_path, told):
    page = dock.label_panel.blocks
    page.statistics.show_now(True)
    (tmp_path / "said.csv").write_text("block_class,mask_class,mean,spread\n80-100,tumour,90%,0\n")
    page.import_button.read("What the classes mean: CSV …", tmp_path / "said.csv")
    assert any("No class is surer than 3%" in message for _, message in told)
    assert page.statistics.floored.text() == "A spread below 3 % counts as 3 %: 80-100."
    assert page.statistics.floored.isVisibleTo(page.statistics)
    page.statistics.table.item(0, SPREAD).setText("12")  # of a class that only its name explains so far
    table = dock.workspace.study.statistics().set_index(["block_class", "mask_class"])
    assert table.loc[("0-20", "tumour"), "mean"] == pytest.approx(0.1)
    assert table.loc[("0-20", "tumour"), "spread"] == pytest.approx(0.12)


def test_ten_bins_are_added_ready_to_train_in_one_edit(make_dock, study_path, answer_bins):
    dock = make_dock(study_path)
    dock.workspace.set_task(TISSUE)
    dock.label_panel.blocks.bins_button.click()
    study = dock.workspace.study
    assert [item.name for item in study.classes("mask")] == ["background", "tumour"]
    assert len(study.classes("block")) == 10
    assert study.class_named("95-100", "block").key == "0"  # a key for each of ten
    assert len(study.statistics()) == 20
    assert PAINT in dock.viewer.layers
    dock.label_panel.undo()
    assert not study.classes("block")


def test_a_probability_map_becomes_blocks(dock, tmp_path, monkeypatch, told, answer_bins):
    import imageio.v3
    from qtpy.QtWidgets import QFileDialog

    values = np.zeros((6, 6), np.uint8)
    values[:, 3:] = 250
    imageio.v3.imwrite(tmp_path / "map.png", values)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(tmp_path / "map.png"), ""))
    dock.label_panel.blocks.import_button.menu().actions()[1].trigger()
    found = stored_blocks(dock)
    assert len(found) == 36
    assert (found[(0, 0)], found[(0, 5)]) == ("0-20", "95-100 %")  # the study has the first one
    assert np.asarray(dock.rasters.found[BLOCKS].data).all()
    assert not any(severity == "error" for severity, _ in told)


def test_bins_are_edited_before_a_map_is_binned(make_dock, study_path, tmp_path, told, answer_bins):
    values = np.zeros((6, 4))
    values[:, 2:] = [0.3, 0.93]
    np.save(tmp_path / "map.npy", values)
    dock = make_dock(study_path)
    dock.workspace.set_task(TISSUE)
    page = dock.label_panel.blocks
    text = "Probability map of this image, in bins …"
    answer_bins["good"] = False
    page.import_button.read(text, tmp_path / "map.npy")
    assert stored_blocks(dock) == {}
    assert not dock.workspace.study.classes("mask")
    answer_bins.update(good=True, edges="0, 50, 90, 100", exact="lymph node")
    page.import_button.read(text, tmp_path / "map.npy")
    assert answer_bins["said"] == "3 classes: 0-50, 50-90, 90-100"
    assert answer_bins["asked_size"]
    study = dock.workspace.study
    assert study.grid(1) == Grid(16, 24)  # an element of the map is a block
    assert set(stored_blocks(dock).values()) == {"0-50 %", "90-100 %"}
    assert [item.name for item in study.classes("mask")] == ["background", "lymph node"]
    dock.label_panel.undo()
    assert stored_blocks(dock) == {}
    assert study.grid(1) is None
    assert not study.classes("mask")


def test_a_table_of_probabilities_with_several_exact_classes(dock, tmp_path, told, answer_bins):
    study, page = dock.workspace.study, dock.label_panel.blocks
    study.add_class("necrosis", kind="mask")
    lines = ["image,row,col,probability", "first.png,0,0,0.1", "second.png,0,1,0.7"]
    (tmp_path / "map.csv").write_text("\n".join(lines))
    dock.workspace.step_image(1)  # it has no grid: the size is asked for
    answer_bins.update(edges="0, 40, 100", exact="necrosis")
    page.import_button.read("Probability map of this image, in bins …", tmp_path / "map.csv")
    assert answer_bins["asked_size"]
    assert study.grid(2) == Grid(64, 64)
    assert [study.blocks(n)["class"].tolist() for n in (1, 2)] == [["0-40 %"], ["40-100 %"]]
    said = study.statistics().set_index(["block_class", "mask_class"])["mean"]
    assert said["40-100 %", "necrosis"] == pytest.approx(0.7)
    assert ("40-100 %", "tumour") not in said  # nobody has said that yet, and it is not made up


def test_bins_that_make_no_sense_cannot_be_taken(qtbot):
    from napari_mtssl.gui.panels.bins import BinsDialog

    dialog = BinsDialog("Bins", ["tumour"])
    qtbot.addWidget(dialog)
    for text in ("0, 50", "10, 100", "0, 60, 50, 100", "0, half, 100", ""):
        dialog.edges.setText(text)
        assert dialog.said.text().startswith("⚠")
        assert not dialog.buttons.button(dialog.buttons.StandardButton.Ok).isEnabled()
    dialog.edges.setText("0; 12.5; 100 %")
    assert dialog.bins().names == ["0-12.5", "12.5-100"]


def test_grids_need_not_be_square_and_can_be_laid_on_all_images(dock, told):
    study, page = dock.workspace.study, dock.label_panel.blocks
    stroke(dock, BLOCKS, [(0, 0)])
    size = page.grid.size
    size.height_box.setValue(24)
    assert size.width_box.value() == 24  # square until the width is said
    size.width_box.setValue(40)
    size.height_box.setValue(30)
    assert size.width_box.value() == 40
    page.grid.all_button.click()
    assert study.grid(1) == Grid(16, 16)
    assert study.grid(2) == Grid(30, 40)
    assert any("first.png kept blocks of another size" in message for _, message in told)
    dock.label_panel.undo()
    assert study.grid(2) is None
    dock.workspace.step_image(1)
    size.height_box.setValue(30)
    size.width_box.setValue(40)
    page.lay_button.click()
    assert dock.rasters.found[BLOCKS].data.shape == (4, 3)
    assert "30 × 40 pixels" in page.hint.text()


def test_coarse_labels_are_exported_and_come_back(dock, tmp_path, monkeypatch, told):
    from qtpy.QtWidgets import QFileDialog

    study, page = dock.workspace.study, dock.label_panel.blocks
    study.set_blocks(1, {(0, 0): "0-20", (0, 1): "0-20", (1, 0): "80-100", (5, 5): "80-100"})
    study.add_region(1, np.array([[40, 40], [60, 40], [50, 70]]), "0-20")
    page.statistics.show_now(True)
    page.statistics.defaults_button.click()
    names = ("blocks.csv", "blocks.geojson", "said.csv")
    for action, name in zip(page.export_button.menu().actions(), names, strict=True):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, n=name, **k: (str(tmp_path / n), ""))
        action.trigger()
        assert (tmp_path / name).stat().st_size > 50
    before, polygon = stored_blocks(dock), study.regions(1)["polygon"][0]
    study.set_blocks(1, dict.fromkeys(before))
    study.delete_regions(study.regions(1)["id"])
    texts = [action.text() for action in page.import_button.menu().actions()]
    page.import_button.read(next(text for text in texts if "GeoJSON" in text), tmp_path / "blocks.geojson")
    assert stored_blocks(dock) == before
    np.testing.assert_array_equal(study.regions(1)["polygon"][0], polygon)
    assert not any(severity == "error" for severity, _ in told)


def test_the_low_resolution_model_guesses_the_other_blocks(dock, told, wait):
    button = dock.label_panel.findChild(GuessBlocks)
    button.button.click()
    assert any("two classes or more" in message for _, message in told)
    study = dock.workspace.study
    study.set_blocks(1, {(i, j): ("0-20", "80-100")[i % 2] for i in range(5) for j in range(6)})
    dock.workspace.blocks_changed.emit()
    button.steps = 100_000
    button.button.click()
    wait(lambda: "Learning from blocks: " in button.said.text())
    assert button.button.text() == "Stop guessing"
    button.button.click()
    wait(lambda: not dock.runner.busy)
    assert "no block was changed" in button.said.text()
    assert len(stored_blocks(dock)) == 30
    button.steps = 3
    button.button.click()
    wait(lambda: not dock.runner.busy)
    assert "6 blocks of 1 image got a class" in button.said.text()
    assert len(stored_blocks(dock)) == 36
    assert np.asarray(dock.rasters.found[BLOCKS].data).all()
    dock.label_panel.undo()
    assert len(stored_blocks(dock)) == 30
    assert dock.runner.failure is None


def test_layers_removed_by_the_user_come_back_and_nothing_is_lost(dock, told):
    stroke(dock, BLOCKS, [(0, 0)])
    for name in (BLOCKS, PAINT, PREDICTED, "first.png"):
        dock.viewer.layers.remove(name)
    assert any("blocks are safe" in message for _, message in told)
    predict(dock, np.full((2, 48, 48), 0.5, np.float32), (2.0, 2.0))
    dock.label_panel.undo()
    dock.label_panel.redo()
    dock.label_panel.show_layers.emit()
    assert [layer.name for layer in dock.viewer.layers if layer.name in (BLOCKS, PAINT)] == [BLOCKS, PAINT]
    assert dock.rasters.found[BLOCKS].data[0, 0] > 0
    assert not any(severity == "error" for severity, _ in told)


def test_switching_the_task_switches_layers_and_keys(dock):
    dock.study_panel.task.setCurrentIndex(0)
    dock.study_panel.task.activated.emit(0)
    assert LABELS in dock.viewer.layers
    assert BLOCKS not in dock.viewer.layers
    dock.study_panel.task.setCurrentIndex(1)
    dock.study_panel.task.activated.emit(1)
    assert LABELS not in dock.viewer.layers
    assert BLOCKS in dock.viewer.layers


def test_closing_the_dock_takes_its_layers(dock):
    dock.viewer.window.remove_dock_widget(dock)
    assert [layer.name for layer in dock.viewer.layers] == ["first.png"]
