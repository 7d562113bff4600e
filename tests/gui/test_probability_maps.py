"""Importing probability maps in a real window: what is asked, what is said, what lies on the image."""

import numpy as np
import pytest
import tifffile
import zarr
from qtpy.QtWidgets import QFileDialog

from napari_mtssl.gui.panels.bins import BinsDialog
from napari_mtssl.gui.rasters import BLOCKS
from napari_mtssl.gui.tasks import TISSUE
from napari_mtssl.study import Grid

pytestmark = pytest.mark.gui


@pytest.fixture
def choose(make_dock, study_path, monkeypatch):
    """Choose a file in the menu of imports, and answer what is asked; the study has no grid."""
    dock = make_dock(study_path)
    dock.workspace.set_task(TISSUE)
    menu = dock.label_panel.blocks.import_button.menu()

    def take(path, edges, side=None):
        """Return the dock, and what was asked; None if nothing was."""
        asked = []

        def answer(dialog):
            asked.append((dialog.about.text(), dialog.about.isVisibleTo(dialog)))
            if dialog.size is not None:
                asked.append((dialog.size.height_box.value(), dialog.size.width_box.value()))
                if side is not None:
                    dialog.size.height_box.setValue(side)
            dialog.edges.setText(edges)
            return True

        monkeypatch.setattr(BinsDialog, "exec", answer)
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(path))
        text = "Zarr, in bins" if path.is_dir() else "image, in bins"
        next(action for action in menu.actions() if text in action.text()).trigger()
        return dock, asked

    return take


def test_an_ome_zarr_of_patches_is_binned_and_lies_on_the_image(choose, tmp_path, told):
    """The image is 96 pixels wide: of patches of 20, four are whole, and a strip of 16 has no class."""
    values = np.rint(np.linspace(0, 255, 16).reshape(4, 4)).astype(np.uint8)
    group = zarr.create_group(tmp_path / "map.ome.zarr", zarr_format=2)
    group.create_array("0", shape=(1, 4, 4), dtype="u1")[...] = values[None]
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    dock, asked = choose(tmp_path / "map.ome.zarr", "0, 50, 100", side=20)
    assert asked == [("4 × 4 values of 0 to 100 % (0 to 255 of 255).", True), (24, 24)]
    study = dock.workspace.study
    assert study.grid(1) == Grid(20, 20)
    found = study.blocks(1)
    assert found["class"].tolist() == ["0-50 %"] * 8 + ["50-100 %"] * 8
    shown = np.asarray(dock.rasters.found[BLOCKS].data)
    assert shown.shape == (5, 5)
    assert shown[:4, :4].all()
    assert not shown[4].any()
    dock.label_panel.undo()
    assert not len(study.blocks(1))
    assert study.grid(1) is None


def test_what_is_no_map_is_said_before_anything_is_asked(choose, tmp_path, told):
    tifffile.imwrite(tmp_path / "cent.tif", np.array([[0, 99]], np.float32))
    (tmp_path / "folder").mkdir()
    (tmp_path / "map.csv").write_text("image,row,col,probability\nfirst.png,0,0,1.5\n")
    said = {
        "cent.tif": "divide per cent by 100",
        "folder": "no Zarr array and no OME-Zarr image",
        "map.csv": "line 2: a probability is a number from 0 to 1",
        "gone.png": "There is no file",
    }
    for name, sentence in said.items():
        dock, asked = choose(tmp_path / name, "0, 50, 100")
        assert not asked
        assert any(sentence in message for _, message in told)
    assert not dock.workspace.study.classes("block")
    assert not any(severity == "error" for severity, _ in told)


def test_a_table_asks_for_the_size_where_another_of_its_images_has_no_grid(choose, tmp_path, told):
    lines = ["image,row,col,probability", "first.png,0,0,10%", "second.png,2,1,90 %"]
    (tmp_path / "map.csv").write_text("\n".join(lines))
    dock, asked = choose(tmp_path / "map.csv", "0, 50, 100", side=16)
    assert asked[0] == ("2 blocks of 2 images, rows to 2, columns to 1, with 10 to 90 %.", True)
    study = dock.workspace.study
    assert [study.grid(n) for n in (1, 2)] == [Grid(16, 16)] * 2
    study.set_grid(2, Grid(32, 32), erase=True)
    assert choose(tmp_path / "map.csv", "0, 50, 100")[1] == [asked[0]]  # both have a grid now
    assert [study.blocks(n)["class"].tolist() for n in (1, 2)] == [["0-50 %"], ["50-100 %"]]
