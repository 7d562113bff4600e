"""Probability maps as other programs write them: formats, what does not fit, and where blocks lie."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr

from napari_mtssl.study import Grid, Study, StudyError
from napari_mtssl.study.files import read_array
from napari_mtssl.study.probability_maps import import_probability_map, read_probabilities

from .conftest import add_image

VALUES = np.linspace(0, 1, 20).reshape(4, 5)
EDGES = (0, 0.25, 0.5, 0.75, 1)


def ome_zarr(path: Path, values: np.ndarray, *, version: int) -> None:
    group = zarr.create_group(path, zarr_format=2 if version == 4 else 3)
    group.create_array("0", shape=values.shape, dtype=values.dtype)[...] = values
    said = [{"datasets": [{"path": "0"}]}]
    group.attrs.update({"multiscales": said} if version == 4 else {"ome": {"multiscales": said}})


WRITERS = {
    "8.zarr": lambda p, v: zarr.save(p, np.rint(v * 255).astype(np.uint8)),
    "half.zarr": lambda p, v: zarr.save(p, v.astype(np.float16)),
    "4.ome.zarr": lambda p, v: ome_zarr(p, v, version=4),
    "5.ome.zarr": lambda p, v: ome_zarr(p, v[None, None, None], version=5),
    "16.png": lambda p, v: iio.imwrite(p, np.rint(v * 65535).astype(np.uint16)),
    "colour.png": lambda p, v: iio.imwrite(p, np.repeat(np.rint(v * 255).astype(np.uint8)[..., None], 3, 2)),
    "float.tif": lambda p, v: tifffile.imwrite(p, v.astype(np.float32)),
    "16.tif": lambda p, v: tifffile.imwrite(p, np.rint(v * 65535).astype(np.uint16)),
    "semicolon.csv": lambda p, v: p.write_text(
        "image;row;col;probability\n"
        + "".join(f"slide1.png;{i};{j};{str(v[i, j]).replace('.', ',')}\n" for i, j in np.ndindex(v.shape))
    ),
    "percent.csv": lambda p, v: p.write_text(
        "image,row,col,probability\n"
        + "".join(f"slide1.png,{i},{j},{100 * v[i, j]} %\n" for i, j in np.ndindex(v.shape))
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_blocks(study: Study, tmp_path: Path, name: str) -> None:
    image = add_image(study, tmp_path / "slide1.png", 200, 250)
    study.set_grid(image.id, Grid(50, 50))
    WRITERS[name](tmp_path / name, VALUES)
    report = import_probability_map(study, tmp_path / name, image.id, edges=EDGES)
    assert report.added == 20
    found = study.blocks(image.id)
    wanted = np.minimum(VALUES * 4, 3).astype(int)
    names = np.array(["0-25 %", "25-50 %", "50-75 %", "75-100 %"])
    assert found["class"].tolist() == names[wanted].ravel().tolist()


def test_bins_are_made_in_order_also_those_that_no_block_has(study: Study, tmp_path: Path) -> None:
    image = add_image(study, tmp_path / "slide1.png")
    report = import_probability_map(study, np.array([[0.9, 0.1]]), image.id, edges=EDGES)
    assert report.classes_created == ("0-25 %", "25-50 %", "50-75 %", "75-100 %")
    assert [item.name for item in study.classes("block")] == list(report.classes_created)


def test_a_probability_of_32_bits_on_an_edge_belongs_to_the_bin_above(study: Study, tmp_path: Path) -> None:
    image = add_image(study, tmp_path / "slide1.png")
    import_probability_map(study, np.array([[0.7]], np.float32), image.id, edges=(0, 0.7, 1))
    assert study.blocks(image.id)["class"].tolist() == ["70-100 %"]


@pytest.mark.parametrize(("rows", "cols"), [(15, 20), (16, 21)])
def test_patches_that_do_not_fill_the_image_stay_in_their_place(study: Study, tmp_path: Path, rows, cols):
    """Of 1000 x 1300 pixels, 15 x 20 patches of 64 are whole; stretched, the last would be 40 pixels off."""
    image = add_image(study, tmp_path / "slide1.png", 1000, 1300)
    values = np.random.default_rng(0).random((rows, cols))
    found = read_probabilities(study, values)
    assert found.sides(image) == (64, 64)
    import_probability_map(study, found, image.id, edges=(0, 0.5, 1), grid=Grid(64, 64))
    blocks = study.blocks(image.id)
    assert len(blocks) == rows * cols  # what was cut off has no class unless the map has it
    assert (blocks["class"] == "50-100 %").tolist() == (values >= 0.5).ravel().tolist()


def test_what_blocks_a_map_stands_for(study: Study, tmp_path: Path) -> None:
    image = add_image(study, tmp_path / "slide1.png", 960, 1280)
    sides = {(15, 20): (64, 64), (15, 10): (64, 128), (960, 1280): (64, 64), (7, 10): (128, 128)}
    for shape, wanted in sides.items():
        assert read_probabilities(study, np.zeros(shape)).sides(image) == wanted


def test_blocks_smaller_than_elements_reach_to_the_edge(study: Study, tmp_path: Path) -> None:
    image = add_image(study, tmp_path / "slide1.png", 100, 100)
    values = np.array([[0.1, 0.9]])
    import_probability_map(study, values, image.id, edges=(0, 0.5, 1), grid=Grid(30, 30))
    assert (study.blocks(image.id)["class"] == "50-100 %").tolist() == [False, False, True, True] * 4


def test_what_was_read_is_said(study: Study, tmp_path: Path) -> None:
    """Per cent in 8 bits look like probabilities up to 39 %: who sees that can tell."""
    said = read_probabilities(study, np.array([[0, 100]], np.uint8)).said
    assert said == "1 × 2 values of 0 to 39.2 % (0 to 100 of 255)."
    add_image(study, tmp_path / "slide1.png")
    (tmp_path / "p.csv").write_text("image,row,col,probability\nslide1.png,2,3,50%\nslide1.png,0,0,nan\n")
    said = read_probabilities(study, tmp_path / "p.csv").said
    assert said == "1 block of 1 image, rows to 2, columns to 3, with 50 to 50 %."


def test_wrong_files_say_what_they_are(study: Study, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    zarr.create_group(tmp_path / "group.zarr").create_array("x", shape=(2, 2), dtype="f4")
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    for name in ("bad.png", "bad.tif", "bad.geojson"):
        (tmp_path / name).write_bytes(b"{}")
    sentences = {
        "nowhere.png": "There is no file",
        "folder": "The folder folder is no Zarr array and no OME-Zarr image",
        "group.zarr": r"no OME-Zarr image; choose an array in it \(it holds x\)",
        "objects.npy": "it holds no plain numbers",
        "bad.png": "it has no format that is known",
        "bad.tif": "cannot be read as an image: not a TIFF file",
        "bad.geojson": "cannot be read as an image",
    }
    for name, sentence in sentences.items():
        with pytest.raises(StudyError, match=sentence):
            read_probabilities(study, tmp_path / name)


def test_pictures_as_large_as_our_masks_can_be_read(tmp_path: Path, monkeypatch) -> None:
    """Pillow takes pictures of more than 179 megapixels for an attack; we write masks of up to 500."""
    import PIL.Image

    iio.imwrite(tmp_path / "p.png", np.zeros((30, 30), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert read_array(tmp_path / "p.png").shape == (30, 30)
    assert PIL.Image.MAX_IMAGE_PIXELS == 100
