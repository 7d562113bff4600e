"""Free regions in a real window: drawn, chosen, bent, deleted, undone; the study always knows."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_mtssl.gui.rasters import BLOCKS
from napari_mtssl.gui.regions import REGIONS, around
from napari_mtssl.study import Grid, Study

pytestmark = pytest.mark.gui
TRIANGLE = np.array([[10.0, 10.0], [10.0, 50.0], [40.0, 30.0]])


@pytest.fixture
def dock(make_dock, study_path):
    with Study.open(study_path) as study:
        study.add_class("0-20", kind="block", key="1")
        study.add_class("80-100", kind="block", key="2")
        study.add_class("tumour", kind="mask")
        study.set_grid(study.images()[0].id, Grid(16, 16))
    return make_dock(study_path)


def press(layer, key):
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


def stored(dock):
    with Study.open(dock.workspace.study.path) as study:
        return study.regions(dock.workspace.image.id)


def click(layer, kind, place, **more):
    """Send a mouse event as napari's canvas does."""
    from napari.utils.interactions import (
        mouse_double_click_callbacks,
        mouse_move_callbacks,
        mouse_press_callbacks,
        mouse_release_callbacks,
    )

    send = {
        "mouse_press": mouse_press_callbacks,
        "mouse_move": mouse_move_callbacks,
        "mouse_release": mouse_release_callbacks,
        "mouse_double_click": mouse_double_click_callbacks,
    }[kind]
    event = SimpleNamespace(
        type=kind,
        is_dragging=False,
        position=tuple(place),
        pos=np.array(place) * 4,
        view_direction=None,
        up_direction=None,
        dims_displayed=[0, 1],
        dims_point=[0.0, 0.0],
        modifiers=[],
        button=1,
        handled=False,
        **more,
    )
    send(layer.__wrapped__, event)


def draw(layer, corners):
    """Click corners with the polygon tool, and end with a double click."""
    for corner in corners:
        click(layer, "mouse_move", corner)
        click(layer, "mouse_press", corner)
        click(layer, "mouse_release", corner)
    click(layer, "mouse_double_click", corners[-1])


def test_a_region_is_drawn_with_the_mouse_and_each_is_one_edit(dock):
    assert REGIONS not in dock.viewer.layers
    page = dock.label_panel.blocks
    page.region_tools.buttons["add_polygon"].click()
    layer = dock.regions.layer
    assert dock.viewer.layers.selection.active == layer and layer.mode == "add_polygon"
    assert [item.name for item in dock.viewer.layers][-2:] == [REGIONS, "Mask"]
    press(layer, "2")
    draw(layer, TRIANGLE)
    found = stored(dock)
    assert found["class"].tolist() == ["80-100"]
    np.testing.assert_allclose(found["polygon"][0][:3], TRIANGLE)
    press(layer, "1")
    draw(layer, TRIANGLE + 40)
    assert stored(dock)["class"].tolist() == ["80-100", "0-20"]
    colours = dock.workspace.colours("block")
    shown = ["#" + "".join(f"{round(255 * v):02x}" for v in rgb[:3]) for rgb in np.asarray(layer.face_color)]
    assert shown == [colours["80-100"], colours["0-20"]]
    dock.workspace.blocks_changed.emit()
    page.classes.refresh_counts()
    assert [page.classes.table.item(at, 3).text() for at in range(2)] == ["1", "1"]
    numbers, classes = dock.workspace.study.coarse_map(1, (0, 0, 96, 96))
    assert classes[numbers[20, 30]] == "80-100"
    press(layer, "Control-Z")
    assert len(stored(dock)) == 1 and len(layer.data) == 1
    dock.label_panel.undo()
    assert len(stored(dock)) == 0 and len(layer.data) == 0
    dock.label_panel.redo()
    assert len(layer.data) == 1


@pytest.fixture
def two(dock):
    dock.workspace.study.add_region(1, TRIANGLE, "0-20")
    dock.workspace.study.add_region(1, TRIANGLE + 40, "0-20")
    dock.workspace.everything_changed()
    dock.regions.take("select")
    return dock


def test_chosen_regions_get_a_class_by_key_are_moved_and_deleted(two):
    layer = two.regions.layer
    layer.selected_data = {1}
    press(layer, "2")
    assert stored(two)["class"].tolist() == ["0-20", "80-100"]
    assert set(layer.selected_data) == {1}  # go on with it
    start, end = (60.0, 70.0), (65.0, 68.0)
    click(layer, "mouse_move", start)
    click(layer, "mouse_press", start)
    click(layer, "mouse_move", end) if False else None
    two.regions._edited(SimpleNamespace(action="changed", data_indices=(1,)))
    np.testing.assert_allclose(stored(two)["polygon"][1], TRIANGLE + 40)  # nothing moved: nothing changed
    history = two.workspace.study.change_counter()
    moved = [np.array(shape) for shape in layer.data]
    moved[1] = moved[1] + (3.0, -2.0)
    with two.layers.busy():
        layer.data = [(shape, "polygon") for shape in moved]
    two.regions._edited(SimpleNamespace(action="changed", data_indices=(1,)))
    np.testing.assert_allclose(stored(two)["polygon"][1], TRIANGLE + 40 + (3, -2))
    assert two.workspace.study.change_counter() > history
    layer.selected_data = {0}
    layer.remove_selected()
    assert stored(two)["class"].tolist() == ["80-100"]
    two.label_panel.undo()
    two.label_panel.undo()
    two.label_panel.undo()
    found = stored(two)
    assert found["class"].tolist() == ["0-20", "0-20"]
    np.testing.assert_allclose(found["polygon"][1], TRIANGLE + 40)
    assert len(layer.data) == 2


def test_what_is_no_region_is_refused_in_words_and_goes(dock, told, wait):
    dock.regions.take("add_polygon")
    layer = dock.regions.layer
    layer.add_lines(np.array([[5.0, 5.0], [30.0, 30.0]]))
    assert any("A line has no inside" in message for _, message in told)
    wait(lambda: len(layer.data) == 0, 5)
    layer.add_polygons(TRIANGLE + 500)
    assert any("outside first.png" in message for _, message in told)
    wait(lambda: len(layer.data) == 0, 5)
    assert len(stored(dock)) == 0
    layer.add_ellipses(np.array([[20.0, 20.0], [20.0, 60.0], [40.0, 60.0], [40.0, 20.0]]))
    wait(lambda: layer.shape_type == ["polygon"], 5)
    (polygon,) = stored(dock)["polygon"]
    np.testing.assert_allclose([polygon.min(0), polygon.max(0)], [[20, 20], [40, 60]], atol=0.2)


def test_an_ellipse_is_turned_as_it_is_drawn():
    box = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 2.0], [2.0, 0.0]])  # a circle in a square on its corner
    np.testing.assert_allclose(np.hypot(*(around(box) - 2).T), np.sqrt(2))


def test_regions_follow_images_tasks_and_the_dock(two, told):
    two.viewer.layers.remove(REGIONS)
    assert any("regions are safe" in message for _, message in told)
    two.label_panel.show_layers.emit()
    assert len(two.regions.layer.data) == 2
    two.workspace.step_image(1)
    assert len(two.regions.layer.data) == 0
    two.workspace.step_image(-1)
    assert len(two.regions.layer.data) == 2
    two.study_panel.task.setCurrentIndex(0)
    two.study_panel.task.activated.emit(0)
    assert REGIONS not in two.viewer.layers
    two.study_panel.task.setCurrentIndex(1)
    two.study_panel.task.activated.emit(1)
    assert REGIONS in two.viewer.layers and BLOCKS in two.viewer.layers
    two.workspace.study.update_class("0-20", new_name="little", colour="#00ff00", kind="block")
    two.workspace.classes_edited()
    np.testing.assert_allclose(np.asarray(two.regions.layer.face_color)[:, :3], [[0, 1, 0]] * 2)
    two.viewer.window.remove_dock_widget(two)
    assert REGIONS not in two.viewer.layers
    assert not any(severity == "error" for severity, _ in told)


def test_too_many_regions_count_but_are_not_drawn(dock, told, monkeypatch):
    monkeypatch.setattr("napari_mtssl.gui.regions.MOST", 1)
    for shift in (0, 40):
        dock.workspace.study.add_region(1, TRIANGLE + shift, "0-20")
    dock.workspace.blocks_changed.emit()
    assert REGIONS not in dock.viewer.layers
    dock.label_panel.blocks.region_tools.buttons["add_polygon"].click()
    assert any("too many to draw" in message for _, message in told)
