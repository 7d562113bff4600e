"""Masks, in and out: PNG, OME-Zarr labels, QuPath's polygons."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_mtssl.study import Grid, ImageRecord, Study, StudyError, exchange
from napari_mtssl.study.lattices import grid_of_rectangles, rectangle
from napari_mtssl.study.mask_pixels import mask_tiles
from napari_mtssl.study.polygons import filled, outlines, outlines_in_tiles, ring_of, shape_of

from .conftest import add_image, all_rows


def blobs(seed: int, shape=(200, 300)) -> np.ndarray:
    """0 background, 1 and 2 blobs with holes, all of it."""
    rng = np.random.default_rng(seed)
    one, two = (gaussian_filter(rng.standard_normal(shape), 6) for _ in range(2))
    return np.where(two > 0.03, 2, np.where(one > 0.02, 1, 0)).astype(np.uint8)


@pytest.fixture
def painted(study: Study, image: ImageRecord) -> ImageRecord:
    study.add_class("gland", "#00ff00", kind="mask")
    study.add_class("stroma", "#0000ff", kind="mask")
    exchange.import_mask(study, blobs(0), image.id, {0: "background", 1: "gland", 2: "stroma"})
    return image


@pytest.fixture
def fresh(painted: ImageRecord, tmp_path: Path):
    """Another study of the same image, without labels."""
    with Study.create(tmp_path / "fresh") as made:
        made.add_image(painted.path, height=200, width=300)
        yield made


def names(study: Study, image_id: int) -> np.ndarray:
    """Name of every pixel's class."""
    known = {c.code: c.name for c in study.classes("mask")} | {0: ""}
    return np.vectorize(known.get)(exchange.mask_codes(study, image_id))


# -- outlines -----------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), part=st.floats(0.05, 0.95))
def test_outlines_are_exact_and_valid(seed: int, part: float) -> None:
    """Noise has every kind of hole and of touching corners."""
    mask = np.random.default_rng(seed).random((13, 17)) < part
    again = np.zeros_like(mask)
    area = 0.0
    for polygon in outlines(mask):
        assert polygon.is_valid
        area += polygon.area
        rings = [np.array(ring.coords)[:, ::-1] - 0.5 for ring in (polygon.exterior, *polygon.interiors)]
        row, col, inside = filled(rings)
        rows, cols = np.nonzero(inside)
        assert not again[rows + row, cols + col].any()
        again[rows + row, cols + col] = True
        assert shape_of(ring_of(rings)).area == pytest.approx(polygon.area)
    np.testing.assert_array_equal(again, mask)
    assert area == mask.sum()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 9), box=st.tuples(*[st.integers(-30, 30)] * 2))
def test_filled_pixels_are_those_inside(seed: int, n: int, box) -> None:
    """Also of rings that cross themselves, and cut by a box."""
    import shapely

    ring = np.random.default_rng(seed).uniform(-20, 20, (n, 2))
    row0, col0, inside = filled([ring])
    shape = shape_of(ring)
    rows, cols = np.indices(inside.shape)
    expected = shapely.contains_xy(shape, rows + row0, cols + col0)
    np.testing.assert_array_equal(inside, expected)
    within = (*box, box[0] + 15, box[1] + 17)
    row1, col1, part = filled([ring], within)
    whole = np.zeros((140, 140), bool)
    whole[row0 + 60 : row0 + 60 + inside.shape[0], col0 + 60 : col0 + 60 + inside.shape[1]] = inside
    np.testing.assert_array_equal(
        part, whole[row1 + 60 : row1 + 60 + part.shape[0], col1 + 60 : col1 + 60 + part.shape[1]]
    )
    outside = whole.copy()
    outside[within[0] + 60 : within[2] + 60, within[1] + 60 : within[3] + 60] = False
    assert part.sum() + outside.sum() == whole.sum()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), part=st.floats(0.2, 0.8), side=st.integers(3, 12))
def test_outlines_put_together_of_tiles_are_those_of_the_whole(seed: int, part: float, side: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((23, 31)) < part, rng.integers(1, 3, (23, 31)), 0)
    tiles = [
        (row, col, codes[row : row + side, col : col + side])
        for row in range(0, 23, side)
        for col in range(0, 31, side)
    ]
    found = list(outlines_in_tiles(tiles, codes.shape, [1, 2]))
    for code in (1, 2):
        mine = {polygon.normalize().wkt for kind, polygon in found if kind == code}
        assert mine == {polygon.normalize().wkt for polygon in outlines(codes == code)}


def test_masks_of_large_images_are_exported_in_tiles_alike(
    study: Study, painted: ImageRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_mtssl.study import mask_files, mask_pixels, polygon_files

    study.set_mask_complete(painted.id, False)
    study.paint_mask(painted.id, 50, 0, np.zeros((100, 300), np.uint16))  # a band that nobody painted
    probs = np.kron(np.random.default_rng(1).random((3, 25, 30)), np.ones((8, 10))).astype(np.float32)
    box = (0, 0, 200, 300)
    study.set_mask_prediction(painted.id, "run", box, probs, (1, 1), ("background", "gland", "stroma"))

    def write(name: str) -> tuple[list, np.ndarray]:
        exchange.export_mask_geojson(study, painted.id, tmp_path / f"{name}.geojson", predictions=True)
        exchange.export_mask_zarr(study, painted.id, tmp_path / f"{name}.zarr", predictions=True)
        features = json.loads((tmp_path / f"{name}.geojson").read_text())["features"]
        labels = zarr.open_group(tmp_path / f"{name}.zarr")["labels/mask/0"]
        return features, labels[:]

    whole, labels = write("whole")
    for module in (mask_pixels, polygon_files):
        monkeypatch.setattr(module, "HELD", 0)
    monkeypatch.setattr(mask_pixels.mask_tiles, "__kwdefaults__", {"predictions": False, "side": 70})
    tiled, again = write("tiled")
    np.testing.assert_array_equal(again, labels)
    assert len(tiled) == len(whole)
    assert len({feature["id"] for feature in tiled}) == len(tiled)
    corners = [
        {frozenset(map(tuple, feature["geometry"]["coordinates"][0])) for feature in part}
        for part in (whole, tiled)
    ]
    assert corners[0] == corners[1]
    monkeypatch.setattr(mask_files, "MOST", 10)
    with pytest.raises(StudyError, match="too large for one PNG"):
        exchange.export_masks(study, tmp_path / "png")


def test_tiles_of_a_coarser_prediction_take_the_nearest_element(study: Study, painted: ImageRecord) -> None:
    study.clear_mask(painted.id)
    probs = np.zeros((2, 67, 100), np.float32)
    probs[1, ::2] = 1
    probs[0, 1::2] = 1
    probs[:, :, 90:] = 0  # not predicted yet
    study.set_mask_prediction(painted.id, "run", (0, 0, 200, 300), probs, (3, 3), ("background", "gland"))
    known = {c.name: c.code for c in study.classes("mask")}
    whole = np.zeros((200, 300), int)
    for row, col, codes in mask_tiles(study, painted.id, predictions=True, side=77):
        whole[row : row + codes.shape[0], col : col + codes.shape[1]] = codes
    expected = np.where((np.arange(200) // 3 % 2 == 0)[:, None], known["gland"], known["background"])
    np.testing.assert_array_equal(whole[:, :270], np.broadcast_to(expected, (200, 270)))
    assert not whole[:, 270:].any()


def test_simpler_outlines_have_fewer_corners() -> None:
    mask = np.hypot(*np.mgrid[-30:31, -30:31]) < 28
    (exact,), (simple,) = list(outlines(mask)), list(outlines(mask, simplify=1.0))
    assert len(simple.exterior.coords) < len(exact.exterior.coords) / 2
    assert simple.area == pytest.approx(exact.area, rel=0.03)


# -- PNG -----------------------------


def test_png_go_out_and_come_back(study: Study, painted: ImageRecord, fresh: Study, tmp_path: Path) -> None:
    (path,) = exchange.export_masks(study, tmp_path / "masks")
    assert path == tmp_path / "masks" / "slide1.png"
    np.testing.assert_array_equal(iio.imread(path), blobs(0))
    table = pd.read_csv(tmp_path / "masks" / "classes.csv").fillna("")
    assert table.to_numpy().tolist() == [
        [0, "background", "#999999"],
        [1, "gland", "#00ff00"],
        [2, "stroma", "#0000ff"],
        [255, "", ""],
    ]
    report = exchange.import_masks(fresh, tmp_path / "masks")
    assert str(report) == "1 mask added, 0 already there, new classes: gland, stroma."
    assert (names(fresh, 1) == names(study, painted.id)).all()
    assert fresh.mask_state(1) == study.mask_state(painted.id)
    assert fresh.class_named("gland", "mask").colour == "#00ff00"
    counter = fresh.change_counter()
    assert exchange.import_masks(fresh, tmp_path / "masks").unchanged == 1
    assert fresh.change_counter() == counter
    fresh.undo()
    assert fresh.kinds() == ["cell"]


def test_where_nobody_said_anything(study: Study, painted: ImageRecord, fresh: Study, tmp_path: Path) -> None:
    study.clear_mask(painted.id)
    code = study.class_named("gland", "mask").code
    study.paint_mask(painted.id, 10, 10, np.full((5, 5), code))
    exchange.export_masks(study, tmp_path / "masks")
    assert set(np.unique(iio.imread(tmp_path / "masks" / "slide1.png"))) == {1, 255}
    exchange.import_masks(fresh, tmp_path / "masks")
    assert (fresh.mask(1) > 0).sum() == 25
    assert not fresh.mask_state(1).complete


def test_masks_as_others_name_them(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    """Soft edges, a suffix to the name, other files beside."""
    folder = tmp_path / "lungs"
    folder.mkdir()
    soft = np.clip(300 - 5 * np.hypot(*np.mgrid[-100:100, -150:150]), 0, 255).astype(np.uint8)
    iio.imwrite(folder / "slide1@.png", np.repeat(soft[..., None], 3, axis=2))
    iio.imwrite(folder / "nobody.png", soft)
    (folder / "notes.txt").write_text("hello")
    assert exchange.import_masks(study, folder, "lung").added == 1
    np.testing.assert_array_equal(study.mask(image.id) > 0, soft > 127)
    assert study.mask_state(image.id).complete
    numbers = np.zeros((200, 300), np.int32)
    numbers[3, 4], numbers[5, 6] = 7, 1000  # objects by number
    assert exchange.import_mask(study, numbers, image.id, "lung").changed == 1
    assert (study.mask(image.id) > 0).sum() == 2


def test_predictions_fill_what_nobody_painted(study: Study, painted: ImageRecord, tmp_path: Path) -> None:
    study.clear_mask(painted.id)
    gland, stroma = (study.class_named(n, "mask").code for n in ("gland", "stroma"))
    probs = np.zeros((3, 50, 75), np.float32)
    probs[0, :, :40], probs[2, :, 40:] = 1, 1
    with pytest.raises(StudyError, match=r"no mask of slide1.png: nothing is painted, and nothing predicted"):
        exchange.mask_codes(study, painted.id, predictions=True)
    study.set_mask_prediction(
        painted.id, "r", (0, 0, 100, 300), probs[:, :25], (4, 4), ["background", "gland", "stroma"]
    )
    study.paint_mask(painted.id, 10, 290, np.full((20, 5), gland))
    codes = exchange.mask_codes(study, painted.id, predictions=True)
    assert (codes[:90, :150] == study.class_named("background", "mask").code).all()
    assert (codes[:90, 165:290] == stroma).all()
    assert (codes[10:30, 290:295] == gland).all()
    assert (codes[110:] == 0).all()
    assert len(exchange.export_masks(study, tmp_path / "m", predictions=True)) == 1
    assert exchange.export_mask_geojson(study, painted.id, tmp_path / "m.geojson", predictions=True) == 2
    assert (exchange.mask_codes(study, painted.id) > 0).sum() == 100


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s, p: exchange.import_masks(s, p / "none", "lung"), "There is no folder"),
        (lambda s, p: exchange.import_masks(s, p, "lung"), "No file in .* belongs to an image"),
        (
            lambda s, p: exchange.import_mask(s, np.zeros((5, 5), int), 1, "x"),
            r"shape \(5, 5\), but slide1.png",
        ),
        (
            lambda s, p: exchange.import_mask(s, np.zeros((200, 300)), 1, "x"),
            "one whole number for each pixel",
        ),
        (
            lambda s, p: exchange.import_mask(s, np.ones((200, 300), int), 1, {0: "x"}),
            "of the value 1, which has",
        ),
        (lambda s, p: exchange.import_mask(s, p / "a.png", 1, "x"), "There is no file"),
        (lambda s, p: exchange.export_masks(s, p), "has no masks to export"),
        (
            lambda s, p: exchange.export_mask_geojson(s, 1, p / "a"),
            "no mask of slide1.png: nothing is painted",
        ),
        (lambda s, p: exchange.import_mask_zarr(s, p, 1), "holds no OME-Zarr labels"),
    ],
)
def test_one_clear_sentence(study: Study, image: ImageRecord, tmp_path: Path, act, sentence) -> None:
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence) as caught:
        act(study, tmp_path)
    assert "\n" not in str(caught.value)
    assert all_rows(study) == before


def test_a_folder_without_classes_says_so(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    iio.imwrite(tmp_path / "m" / "slide1.png", np.zeros((200, 300), np.uint8))
    with pytest.raises(StudyError, match=r"no classes.csv in .* add one with the columns value,class"):
        exchange.import_masks(study, tmp_path / "m")


# -- OME-Zarr -----------------------------


def test_ome_zarr_goes_out_and_comes_back(
    study: Study, painted: ImageRecord, fresh: Study, tmp_path: Path
) -> None:
    study.set_pixel_size(painted.id, 0.25)
    path = exchange.export_mask_zarr(study, painted.id, tmp_path / "m.zarr")
    root = zarr.open_group(path, mode="r")
    assert root["labels"].attrs["ome"]["labels"] == ["mask"]
    said = root["labels/mask"].attrs["ome"]
    assert said["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.25, 0.25]
    assert {"label-value": 1, "rgba": [0, 255, 0, 255]} in said["image-label"]["colors"]
    np.testing.assert_array_equal(root["labels/mask/0"][:], blobs(0))
    assert exchange.import_mask_zarr(fresh, path, 1).added == 1
    assert (names(fresh, 1) == names(study, painted.id)).all()
    assert fresh.class_named("stroma", "mask").colour == "#0000ff"
    assert exchange.import_mask_zarr(fresh, path / "labels" / "mask", 1).unchanged == 1


def test_ome_zarr_of_a_large_image_has_reduced_levels(
    study: Study, painted: ImageRecord, fresh: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_mtssl.study import mask_zarr

    monkeypatch.setattr(mask_zarr, "_LEAST", 80)
    monkeypatch.setattr(mask_zarr, "_BAND", 50)
    study.set_pixel_size(painted.id, 0.5)
    path = exchange.export_mask_zarr(study, painted.id, tmp_path / "m.zarr")
    labels = zarr.open_group(path, mode="r")["labels/mask"]
    datasets = labels.attrs["ome"]["multiscales"][0]["datasets"]
    assert [item["path"] for item in datasets] == ["0", "1", "2"]
    for level, item in enumerate(datasets):
        assert item["coordinateTransformations"][0]["scale"] == [0.5 * 2**level] * 2
        np.testing.assert_array_equal(labels[str(level)][:], blobs(0)[:: 2**level, :: 2**level])
    exchange.import_mask_zarr(fresh, path, 1)
    assert (names(fresh, 1) == names(study, painted.id)).all()


def test_ome_zarr_replaces_only_its_own(study: Study, painted: ImageRecord, tmp_path: Path) -> None:
    path = exchange.export_mask_zarr(study, painted.id, tmp_path / "m.zarr")
    study.paint_mask(painted.id, 0, 0, np.full((9, 9), study.class_named("gland", "mask").code))
    exchange.export_mask_zarr(study, painted.id, path)
    assert (zarr.open_group(path, mode="r")["labels/mask/0"][:9, :9] == 1).all()
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "x").write_text("precious")
    with pytest.raises(StudyError, match="There is something else at"):
        exchange.export_mask_zarr(study, painted.id, tmp_path / "mine.zarr")
    assert (tmp_path / "mine.zarr" / "x").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_labels_of_other_programs(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    """Version 0.4, five axes, no names of classes."""
    group = zarr.open_group(tmp_path / "o.zarr", mode="w", zarr_format=2)
    labels = group.create_group("labels")
    labels.attrs["labels"] = ["nuclei"]
    made = labels.create_group("nuclei")
    made.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    made.attrs["image-label"] = {"colors": [{"label-value": 1, "rgba": [1, 2, 3, 255]}]}
    array = made.create_array("0", shape=(1, 1, 1, 200, 300), dtype="int32", chunks=(1, 1, 1, 100, 100))
    array[:] = (blobs(1) > 0).astype(np.int32)[None, None, None]
    with pytest.raises(StudyError, match=r"o.zarr does not say which classes its labels have"):
        exchange.import_mask_zarr(study, tmp_path / "o.zarr", image.id)
    exchange.import_mask_zarr(study, tmp_path / "o.zarr", image.id, "nucleus")
    np.testing.assert_array_equal(study.mask(image.id) > 0, blobs(1) > 0)


# -- QuPath -----------------------------


def test_polygons_go_out_and_come_back(
    study: Study, painted: ImageRecord, fresh: Study, tmp_path: Path
) -> None:
    n = exchange.export_mask_geojson(study, painted.id, tmp_path / "m.geojson")
    features = json.loads((tmp_path / "m.geojson").read_text())["features"]
    assert len(features) == n and len({f["id"] for f in features}) == n
    assert any(len(f["geometry"]["coordinates"]) > 1 for f in features)  # holes
    assert features[0]["properties"]["classification"] == {"name": "gland", "color": [0, 255, 0]}
    report = exchange.import_mask_geojson(fresh, tmp_path / "m.geojson", 1, complete=True)
    assert (report.added, report.noun) == (n, "polygon")
    assert (names(fresh, 1) == names(study, painted.id)).all()
    counter = fresh.change_counter()
    assert exchange.import_mask_geojson(fresh, tmp_path / "m.geojson", 1, complete=True).unchanged == n
    assert fresh.change_counter() == counter


def test_a_polygon_beyond_the_image_is_cut(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    square = [[-5, -5], [10, -5], [10, 10], [-5, 10], [-5, -5]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"classification": {"name": "gland"}},
    }
    (tmp_path / "m.geojson").write_text(json.dumps(feature))
    exchange.import_mask_geojson(study, tmp_path / "m.geojson", image.id)
    mask = study.mask(image.id) > 0
    assert mask[:10, :10].all() and mask.sum() == 100
    assert not study.mask_state(image.id).complete


# -- a whole study -----------------------------


def test_merging_studies(study: Study, painted: ImageRecord, tmp_path: Path) -> None:
    from napari_mtssl.study import Grid

    study.add_class("much", kind="block")
    study.set_grid(painted.id, Grid(50, 50))
    study.set_blocks(painted.id, {(1, 1): "much"})
    study.add_region(painted.id, np.array([[1.0, 1], [1, 20], [20, 20]]), "much")
    study.add_class("benign", kind="grade", note="no cancer")
    study.set_image_class(painted.id, "grade", "benign", source="model", confidence=0.5)
    study.add_cell(painted.id, 5, 5, "tumour")
    study.set_statistics(
        pd.DataFrame([["much", "gland", 0.5, 0.1, "expert"]], columns=study.statistics().columns)
    )
    with Study.create(tmp_path / "mine") as mine:
        other = add_image(mine, tmp_path / "other.png")
        mine.add_class("stroma", kind="mask")
        empty = all_rows(mine)
        reports = exchange.merge_study(mine, study)
        assert [(r.noun, r.added) for r in reports] == [
            ("cell", 1),
            ("block", 1),
            ("region", 1),
            ("mask", 1),
            ("image class", 1),
        ]
        (image,) = (i for i in mine.images() if i.id != other.id)
        assert (names(mine, image.id) == names(study, painted.id)).all()
        assert mine.blocks(image.id).equals(study.blocks(painted.id))
        assert mine.grid(image.id) == Grid(50.0, 50.0)
        assert mine.class_named("benign", "grade").note == "no cancer"
        assert mine.image_classes()["confidence"].tolist() == [0.5]
        pd.testing.assert_frame_equal(mine.statistics(), study.statistics())
        full, counter = all_rows(mine), mine.change_counter()
        assert all(r.added == r.changed == 0 for r in exchange.merge_study(mine, study.path))
        assert mine.change_counter() == counter
        assert mine.undo() == "Undone: Brought in the study breast"
        assert all_rows(mine) == empty
        mine.redo()
        assert all_rows(mine) == full
        with pytest.raises(StudyError, match="is this study itself"):
            exchange.merge_study(mine, mine.path)
        painted.path.unlink()
        with Study.create(tmp_path / "late") as late, pytest.raises(StudyError, match="is no longer at"):
            exchange.merge_study(late, study)


def test_blocks_of_another_grid_become_regions(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    from napari_mtssl.study import Grid

    study.add_class("much", kind="block")
    study.set_grid(image.id, Grid(50, 60))
    study.set_blocks(image.id, {(1, 1): "much"})
    with Study.create(tmp_path / "mine") as mine:
        own = mine.add_image(image.path, height=200, width=300)
        mine.set_grid(own.id, Grid(32, 32))
        exchange.merge_study(mine, study)
        mine_map, _ = mine.coarse_map(own.id, (0, 0, 200, 300))
        np.testing.assert_array_equal(mine_map > 0, study.coarse_map(image.id, (0, 0, 200, 300))[0] > 0)


# -- rectangles of a grid -----------------------------


@pytest.mark.parametrize("grid", [Grid(24, 36), Grid(20.5, 31.25, -3.25, 7.5), Grid(40 / 3, 100 / 7)])
def test_rectangles_bring_their_grid_along(study: Study, image: ImageRecord, fresh, tmp_path, grid) -> None:
    study.add_class("little", kind="block")
    study.add_class("much", kind="block")
    study.set_grid(image.id, grid)
    i0, j0, i1, j1 = grid.blocks_over((0, 0, 200, 300))
    places = [(i, j) for i in range(i0, i1) for j in range(j0, j1)][1::3]
    study.set_blocks(image.id, {place: ("little", "much")[sum(place) % 2] for place in places})
    study.add_region(image.id, np.array([[5.0, 5], [5, 80], [90, 40]]), "much")
    path = tmp_path / "blocks.geojson"
    exchange.export_regions_geojson(study, image.id, path)
    (other,) = fresh.images()
    exchange.import_regions_geojson(fresh, path, other.id)
    laid = fresh.grid(other.id)
    np.testing.assert_allclose(
        [laid.height, laid.width, laid.row0, laid.col0], [grid.height, grid.width, grid.row0, grid.col0]
    )
    pd.testing.assert_frame_equal(fresh.blocks(other.id), study.blocks(image.id))
    assert fresh.regions(other.id)["class"].tolist() == ["much"]
    # QuPath's own tiles do not say which block they are
    told = json.loads(path.read_text())
    for feature in told["features"]:
        del feature["properties"]["metadata"]
    path.write_text(json.dumps(told))
    fresh.undo()
    assert fresh.grid(other.id) is None
    exchange.import_regions_geojson(fresh, path, other.id)
    assert len(fresh.blocks(other.id)) == len(places)
    assert fresh.blocks(other.id)["class"].tolist() == study.blocks(image.id)["class"].tolist()


def test_few_rectangles_or_others_make_no_grid() -> None:
    square = [(10.0 * n, 0.0, 10.0 * n + 10, 10.0) for n in range(3)]
    assert grid_of_rectangles(square) is None
    assert grid_of_rectangles([*square, (35.0, 0.0, 45.0, 10.0)]) is None
    assert grid_of_rectangles([*square, (50.0, 20.0, 60.0, 30.0)]) == Grid(10, 10)
    assert grid_of_rectangles([]) is None
    assert rectangle(np.array([[0, 0], [0, 9], [5, 9], [9, 0], [0, 0.0]])) is None
