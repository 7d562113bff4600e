"""Clicks, moves, deletions, keys and undo in a real window: the study always knows."""

import imageio.v3
import numpy as np
import pytest
from qtpy.QtWidgets import QInputDialog

from napari_mtssl.gui.layers import LABELS, PREDICTIONS, PSEUDO, UNCERTAINTY
from napari_mtssl.gui.shortcuts import SHORTCUTS, Bindings, help_table
from napari_mtssl.study import Study

pytestmark = pytest.mark.gui


def press(layer, key):
    """What napari does when a key is pressed while the layer is active."""
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


def stored(dock):
    """Cells on disk, read through a connection of its own."""
    with Study.open(dock.workspace.study.path) as study:
        return study.cells(dock.workspace.image.id)


def same(dock):
    """Whether layer and study say the same, row by row."""
    layer, cells = dock.layers.points[LABELS], stored(dock)
    return (
        len(layer.data) == len(cells)
        and np.allclose(layer.data, cells[["row", "col"]].to_numpy(float))
        and layer.features["class"].astype(str).tolist() == cells["class"].tolist()
        and dock.annotations.ids == cells["id"].tolist()
    )


def test_opening_a_study_shows_one_layer_of_each_kind(dock):
    names = [layer.name for layer in dock.viewer.layers]
    assert names == ["first.png", UNCERTAINTY, PSEUDO, PREDICTIONS, LABELS]
    assert dock.layers.points[LABELS].face_color_mode == "cycle"
    assert same(dock)


def test_a_click_is_on_disk_at_once_with_the_active_class_and_colour(dock):
    layer = dock.layers.points[LABELS]
    for name, colour in (("red", "#cc3333"), ("blue", "#3333cc"), ("red", "#cc3333")):
        dock.workspace.set_active(name)
        row = 40 + 10 * len(stored(dock)) % 50
        layer.add([row, 90])
        assert stored(dock).iloc[-1][["row", "col", "class"]].tolist() == [row, 90, name]
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(layer.face_color[-1][:3], wanted, atol=1e-3)
    assert same(dock)


def test_a_mouse_click_on_the_canvas_adds_a_cell(dock, qtbot):
    """Through napari's own mouse handling: press and release in add mode."""
    from napari.utils.interactions import mouse_press_callbacks, mouse_release_callbacks

    class Mouse:
        def __init__(self, kind):
            self.type, self.pos, self.position = kind, np.array([50.0, 50.0]), (33.0, 77.0)
            self.view_direction, self.up_direction, self.dims_displayed = None, None, [0, 1]
            self.modifiers, self.is_dragging, self.handled, self.button = [], False, False, 1

    dock.set_click_mode(True)
    layer = dock.viewer.layers[LABELS].__wrapped__
    before = len(stored(dock))
    mouse_press_callbacks(layer, Mouse("mouse_press"))
    mouse_release_callbacks(layer, Mouse("mouse_release"))
    assert len(stored(dock)) == before + 1
    assert stored(dock).iloc[-1][["row", "col"]].tolist() == [33.0, 77.0]


def test_a_click_outside_the_image_is_refused_in_words_and_leaves_no_point(dock, told):
    dock.layers.points[LABELS].add([500, 500])
    assert same(dock)
    assert any("outside" in message for _, message in told)


def test_a_click_on_a_labelled_cell_gives_it_the_active_class(dock):
    layer, before = dock.layers.points[LABELS], stored(dock)
    first = before.iloc[0]
    other = "red" if first["class"] == "blue" else "blue"
    dock.workspace.set_active(other)
    layer.add([first["row"] + 2, first["col"]])
    after = stored(dock)
    assert len(after) == len(before)
    assert after.iloc[0]["class"] == other
    assert same(dock)


def test_moving_and_deleting_points_moves_and_deletes_cells(dock):
    layer = dock.layers.points[LABELS]
    before = stored(dock)
    from napari.layers.base import ActionType

    layer.data[2] = (70.5, 71.5)  # as a drag does: in place, then one event
    layer.__wrapped__.events.data(
        value=layer.data, action=ActionType.CHANGED, data_indices=(2,), vertex_indices=((),)
    )
    assert stored(dock).iloc[2][["row", "col"]].tolist() == [70.5, 71.5]
    layer.selected_data = {0, 3}
    press(layer, "Delete")
    assert stored(dock)["id"].tolist() == [c for n, c in enumerate(before["id"]) if n not in (0, 3)]
    assert same(dock)


def test_a_label_that_is_dragged_onto_one_of_another_class_is_told(dock, told):
    from napari.layers.base import ActionType

    layer, cells = dock.layers.points[LABELS], stored(dock)
    mine, other = 0, int(np.flatnonzero(cells["class"] != cells["class"][0])[0])
    for far, said in ((9, 0), (2, 1)):
        layer.data[mine] = layer.data[other] + (0, far)
        layer.__wrapped__.events.data(
            value=layer.data, action=ActionType.CHANGED, data_indices=(mine,), vertex_indices=((),)
        )
        assert sum(f"There is a label {cells['class'][other]} at this place" in m for _, m in told) == said


def test_undo_and_redo_by_key_change_the_layer_too(dock):
    layer = dock.layers.points[LABELS]
    before = len(layer.data)
    layer.add([80, 80])
    layer.add([80, 60])
    press(layer, "Control-Z")
    assert len(layer.data) == before + 1
    assert same(dock)
    press(layer, "Control-Z")
    press(layer, "Control-Shift-Z")
    assert len(layer.data) == before + 1
    assert same(dock)


def test_digits_choose_the_class_or_give_it_to_the_selection(dock):
    layer = dock.layers.points[LABELS]
    press(layer, "2")
    assert dock.workspace.active == "red"
    assert dock.viewer.canvas.overlays.text.text.startswith("● red")
    dock.set_click_mode(False)
    layer.selected_data = {0, 1}
    press(layer, "9")
    assert stored(dock)["class"].tolist()[:2] == ["background"] * 2
    assert dock.workspace.active == "red"
    assert same(dock)


def test_labels_that_get_another_class_stay_selected(dock):
    layer, before = dock.layers.points[LABELS], stored(dock)
    dock.set_click_mode(False)
    layer.selected_data = {1, 4}
    press(layer, "9")
    assert set(layer.selected_data) == {1, 4}
    press(layer, "Delete")
    assert stored(dock)["id"].tolist() == [c for n, c in enumerate(before["id"]) if n not in (1, 4)]
    assert same(dock)


def test_after_looking_at_a_label_a_click_has_the_active_class_and_its_colour(dock):
    layer = dock.layers.points[LABELS]
    dock.set_click_mode(False)
    layer.selected_data = {layer.features["class"].astype(str).tolist().index("red")}
    dock.set_click_mode(True)
    layer.add([80, 80])
    assert stored(dock).iloc[-1]["class"] == dock.workspace.active == "blue"
    np.testing.assert_allclose(layer.face_color[-1][:3], [0.2, 0.2, 0.8], atol=1e-3)
    assert same(dock)


def test_a_digit_without_a_class_says_so(dock, told):
    press(dock.layers.points[LABELS], "7")
    assert any("key 7" in message for _, message in told)


def test_every_shortcut_works_on_its_layers_only_and_goes_with_the_dock(dock):
    from napari.layers import Points
    from napari.utils.key_bindings import coerce_keybinding

    layers = {"labels": dock.layers.points[LABELS], "predictions": dock.layers.points[PREDICTIONS]}
    for spec in SHORTCUTS:
        for scope, layer in layers.items():
            for key in spec.keys:
                # another action may have the same key on this layer
                meant = any(scope in other.scopes for other in SHORTCUTS if key in other.keys)
                assert (coerce_keybinding(key) in layer.keymap) == meant
    class_keys = dict(Points.class_keymap)
    dock.shutdown(window_closes=False)
    assert not any(layer.keymap for layer in layers.values())
    assert class_keys == dict(Points.class_keymap)


def test_the_help_names_every_key():
    text = help_table()
    assert all(word in text for word in ("Ctrl-Z", "PageDown", "1 … 9", "Delete", "<b>Y</b>"))


def test_the_help_has_one_line_for_each_key():
    import re

    keys = re.findall(r"<b>(.*?)</b>", help_table())
    assert len(keys) == len(set(keys))
    line = next(line for line in help_table().split("<tr>") if "<b>Right</b>" in line)
    assert "next prediction" in line and "Images: the next one" in line


def test_the_image_is_neither_turned_nor_shifted_and_takes_class_keys(dock, told):
    from napari.utils.key_bindings import coerce_keybinding

    image = dock.layers.image
    image.keymap[coerce_keybinding("2")](image)  # napari's own 2 begins to transform the layer
    assert dock.workspace.active == "red" and image.mode == "pan_zoom"
    for layer in (image, dock.layers.points[LABELS]):
        layer.mode = "transform"
        assert layer.mode == "pan_zoom"
    assert sum("stays where it is" in message for _, message in told) == 2


def test_labels_that_are_hidden_are_shown_when_one_clicks_cells(dock):
    layer = dock.layers.points[LABELS]
    layer.visible = False
    dock.label_panel.cells.click.click()
    assert layer.visible and layer.mode == "add" and dock.label_panel.cells.click.isChecked()


def test_a_smaller_image_fills_the_view_after_a_larger_one(dock, tmp_path):
    imageio.v3.imwrite(tmp_path / "large.png", np.full((900, 1200, 3), 220, np.uint8))
    large = dock.workspace.add_images([tmp_path / "large.png"])[0]
    dock.viewer.reset_view()
    small_zoom = dock.viewer.scene.camera.zoom
    dock.workspace.select_image(large.id)
    dock.workspace.study.add_cell(large.id, 880, 1180, "red")
    dock.workspace.cells_changed.emit()
    assert len(dock.layers.points[LABELS].data) == 1
    dock.workspace.step_image(1)  # the first of all
    assert dock.viewer.scene.camera.zoom == pytest.approx(small_zoom, rel=0.01)


def test_names_are_no_markup(dock):
    dock.workspace.study.update_class("blue", new_name="<b>1 % weak")
    dock.workspace.classes_edited()
    dock.workspace.set_active("<b>1 % weak")
    assert "&lt;b&gt;1 % weak" in dock.label_panel.cells.hint.text()


def test_the_background_is_not_asked_about_before_it_is_refused(dock, monkeypatch, told):
    monkeypatch.setattr(QInputDialog, "getItem", lambda *a, **k: pytest.fail("asked"))
    dock.label_panel.table.selectRow(0)
    dock.label_panel.remove_button.click()
    assert "background class cannot be removed" in told[-1][1]


def test_the_buttons_of_a_mode_are_pressed_while_it_is_on(dock):
    page, layer = dock.label_panel.cells, dock.layers.points[LABELS]
    page.click.click()
    assert page.click.isChecked() and not page.select.isChecked()
    page.click.click()  # it is on already
    assert page.click.isChecked() and layer.mode == "add"
    layer.mode = "select"  # as napari's own buttons do
    assert page.select.isChecked() and not page.click.isChecked()
    dock.viewer.layers.selection.active = dock.layers.points[PREDICTIONS]
    assert not page.select.isChecked()  # a click would go elsewhere
    dock.viewer.layers.selection.active = layer
    assert page.select.isChecked()


def test_a_shortcut_without_a_function_is_a_defect():
    with pytest.raises(KeyError, match="accept"):
        Bindings({})


def test_switching_the_image_shows_its_own_labels(dock):
    press(dock.layers.points[LABELS], "PageDown")
    assert dock.workspace.image.path.name == "second.png"
    assert len(dock.layers.points[LABELS].data) == 0
    dock.layers.points[LABELS].add([20, 20])
    assert stored(dock)["image_id"].tolist() == [dock.workspace.image.id]
    press(dock.layers.points[LABELS], "PageUp")
    assert same(dock)
    assert [layer.name for layer in dock.viewer.layers] == [
        "first.png",
        UNCERTAINTY,
        PSEUDO,
        PREDICTIONS,
        LABELS,
    ]


@pytest.mark.parametrize("kind", [LABELS, PREDICTIONS, PSEUDO])
def test_a_removed_layer_ends_in_a_message_and_comes_back(dock, told, kind):
    before = len(stored(dock))
    dock.viewer.layers.remove(kind)
    assert any("Show layers" in message for _, message in told)
    assert len(stored(dock)) == before
    dock.workspace.add_cell(40, 40)
    dock.label_panel.show_layers.emit()
    assert kind in dock.viewer.layers
    assert same(dock)


def test_a_removed_image_layer_comes_back(dock, told):
    dock.viewer.layers.remove("first.png")
    assert any("still part of the study" in message for _, message in told)
    dock.label_panel.show_layers.emit()
    assert dock.viewer.layers[0].name == "first.png"


def test_a_deleted_study_folder_ends_in_a_message_and_the_labels_stay_in_the_viewer(dock, told):
    import shutil

    shutil.rmtree(dock.workspace.study.path)
    dock.layers.points[LABELS].add([80, 80])
    dock.watch.look()
    assert any("is gone" in message for _, message in told)
    assert dock.workspace.study is None
    assert [layer.name for layer in dock.viewer.layers] == ["first.png", "Labels of a study that is gone"]
    assert not any(severity == "error" for severity, _ in told)


def test_a_read_only_study_can_be_looked_at(make_dock, study_path, told):
    import sqlite3

    with sqlite3.connect(study_path / "study.sqlite") as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    from napari_mtssl.gui.workspace import Workspace
    from napari_mtssl.study import StudyError

    dock = make_dock(study_path)

    def refuse(*args, **kwargs):
        raise StudyError("The study is read-only; copy it to a folder you can write to.")

    dock.workspace.study.add_cell = refuse
    before = len(dock.layers.points[LABELS].data)
    dock.layers.points[LABELS].add([80, 80])
    assert len(dock.layers.points[LABELS].data) == before
    assert any("not saved" in message and "read-only" in message for _, message in told)
    assert isinstance(dock.workspace, Workspace)


def test_classes_can_be_added_renamed_recoloured_and_removed(dock, monkeypatch, told):
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QColorDialog, QInputDialog

    from napari_mtssl.gui.panels.label import COLOUR, KEY, NAME

    panel = dock.label_panel
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: ("mitosis", True))
    panel.add_button.click()
    assert dock.workspace.active == "mitosis"
    assert panel.table.rowCount() == 4
    panel.add_button.click()
    assert any("already" in message for _, message in told)
    panel.table.item(3, NAME).setText("mitotic figure")
    panel.table.item(3, KEY).setText("5")
    assert dock.workspace.class_of_key("5") == "mitotic figure"
    assert dock.workspace.active == "mitotic figure"
    monkeypatch.setattr(QColorDialog, "getColor", lambda *a, **k: QColor("#00ff00"))
    panel.table.cellDoubleClicked.emit(3, COLOUR)
    dock.layers.points[LABELS].add([80, 80])
    np.testing.assert_allclose(dock.layers.points[LABELS].face_color[-1], [0, 1, 0, 1], atol=1e-3)
    panel.table.selectRow(3)
    asked = []
    monkeypatch.setattr(QInputDialog, "getItem", lambda *a, **k: asked.append(a) or ("red", False))
    panel.remove_button.click()
    assert "'mitotic figure' is the class of 1 cell in the study" in asked[0][2]
    assert asked[0][3] == ["blue", "red", "background"]
    assert panel.table.rowCount() == 4  # thought better of it
    monkeypatch.setattr(QInputDialog, "getItem", lambda *a, **k: ("red", True))
    panel.remove_button.click()
    assert panel.table.rowCount() == 3
    assert dock.workspace.cells()["class"].iloc[-1] == "red"
    assert same(dock)
    dock.workspace.undo()
    assert dock.workspace.cells()["class"].iloc[-1] == "mitotic figure"
    dock.workspace.undo()
    panel.table.selectRow(3)
    panel.remove_button.click()
    assert panel.table.rowCount() == 3
    assert same(dock)


def test_a_key_that_is_taken_is_refused_and_the_old_one_shown(dock, told):
    from napari_mtssl.gui.panels.label import KEY

    dock.label_panel.table.item(1, KEY).setText("2")
    assert any("key 2" in message for _, message in told)
    assert dock.label_panel.table.item(1, KEY).text() == "1"


def test_recolouring_keeps_the_colours_of_classes_that_are_absent_or_renamed(dock):
    dock.workspace.study.update_class("red", new_name="crimson", colour="#ff0000")
    dock.workspace.classes_edited()
    layer = dock.layers.points[LABELS]
    red = layer.features["class"].astype(str) == "crimson"
    assert red.any()
    np.testing.assert_allclose(
        layer.face_color[red.to_numpy()][:, :3], [[1, 0, 0]] * int(red.sum()), atol=1e-3
    )


def test_layers_are_coloured_anew_only_when_classes_are_others(dock):
    heard, layer = [], dock.layers.points[LABELS]
    dock.layers.recolour()
    layer.events.features.connect(heard.append)
    layer.add([80, 80])
    heard.clear()
    dock.workspace.undo()
    assert not heard
    dock.workspace.study.update_class("red", colour="#ff0000")
    dock.workspace.classes_edited()
    assert heard
    dock.workspace.undo()
    np.testing.assert_allclose(layer.face_color[0][:3], [0.8, 0.2, 0.2], atol=1e-3)


def test_counts_follow_every_click(dock):
    from napari_mtssl.gui.panels.label import BY_HAND, NAME

    panel = dock.label_panel
    at = next(i for i in range(3) if panel.table.item(i, NAME).text() == "blue")
    before = int(panel.table.item(at, BY_HAND).text())
    dock.layers.points[LABELS].add([80, 80])
    assert int(panel.table.item(at, BY_HAND).text()) == before + 1


def test_pasting_is_refused_in_words(dock, told):
    press(dock.layers.points[LABELS], "Control-V")
    assert any("pasted" in message for _, message in told)


def test_the_suggested_place_is_brought_to_the_centre(dock, told):
    dock.label_panel.suggest_button.click()
    assert any("Look here" in message for _, message in told)
    row, col = dock.workspace.seen[-1]
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], (row, col), atol=1e-6)


def test_a_points_layer_of_another_tool_becomes_labels(dock, told):
    from napari.layers import Points

    other = Points([[20.0, 80.0], [60.0, 80.0]], features={"class": ["red", "new one"]}, name="other")
    dock.viewer.add_layer(other)
    dock.viewer.layers.selection.active = dock.viewer.layers["other"]
    dock.label_panel.import_layer.emit()
    assert stored(dock)["class"].tolist()[-2:] == ["red", "new one"]
    assert any("added" in message for _, message in told)
    assert same(dock)


def test_a_labels_layer_becomes_labels_by_centroid(dock):
    painted = np.zeros((96, 96), int)
    painted[70:75, 80:85] = 3
    dock.viewer.add_labels(painted, name="nuclei")
    dock.viewer.layers.selection.active = dock.viewer.layers["nuclei"]
    dock.label_panel.import_layer.emit()
    assert stored(dock).iloc[-1][["row", "col", "class"]].tolist() == [72, 82, "blue"]


@pytest.mark.parametrize("size", [None, 0.5])
def test_a_layer_with_a_scale_of_its_own_is_imported_where_it_is_seen(dock, size):
    """On the image, in its pixels: 2 pixels of it are a unit of the world if it knows its pixel size."""
    if size is not None:
        dock.workspace.study.set_pixel_size(dock.workspace.image.id, size)
        dock.workspace.refresh_image()
    scale = size or 1.0
    dock.viewer.add_points([[1, 10], [10, 15]], name="own", scale=(2, 2), translate=(5, 5))
    dock.viewer.layers.selection.active = dock.viewer.layers["own"]
    dock.label_panel.import_layer.emit()
    places = stored(dock)[["row", "col"]].to_numpy()[-2:]
    np.testing.assert_allclose(places * scale, [[7, 25], [25, 35]])
    half = np.zeros((40, 20), np.uint8)
    half[30:33, 10:13] = 1
    dock.viewer.add_labels(half, name="half", scale=(scale, 2 * scale), translate=(0, 40 * scale))
    dock.viewer.layers.selection.active = dock.viewer.layers["half"]
    dock.label_panel.import_layer.emit()
    np.testing.assert_allclose(stored(dock)[["row", "col"]].to_numpy()[-1], [31, 62])
    if size is not None:  # napari shows nanometres and micrometres in one world
        dock.viewer.add_points([[0, 40]], name="fine", scale=(500, 500), units=("nm", "nm"))
        dock.viewer.layers.selection.active = dock.viewer.layers["fine"]
        dock.label_panel.import_layer.emit()
        np.testing.assert_allclose(stored(dock)[["row", "col"]].to_numpy()[-1], [0, 40])


def test_the_plugins_own_layer_is_not_imported(dock, told):
    dock.viewer.layers.selection.active = dock.viewer.layers[PREDICTIONS]
    dock.label_panel.import_layer.emit()
    assert any("of your own" in message for _, message in told)


def test_closing_the_dock_takes_its_layers_and_says_nothing_is_lost(dock):
    path = dock.workspace.study.path
    count = len(stored(dock))
    dock.viewer.window.remove_dock_widget(dock)
    assert [layer.name for layer in dock.viewer.layers] == ["first.png"]
    assert dock.workspace.study is None
    with Study.open(path) as study:
        assert len(study.cells()) == count
