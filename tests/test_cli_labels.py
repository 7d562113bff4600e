"""The command line for blocks, masks, classes of images, statistics and probability maps."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.study import Grid, Study


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def refused(*arguments) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output + repr(result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def folder(tmp_path):
    """Two folders of images by class, masks beside them, and a table."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    lines = ["image,class,group,split"]
    for name, kind in (("a1", "normal"), ("a2", "normal"), ("b1", "ill")):
        (tmp_path / kind).mkdir(exist_ok=True)
        iio.imwrite(tmp_path / kind / f"{name}.png", rng.integers(0, 255, (60, 80), np.uint8))
        mask = np.zeros((60, 80), np.uint8)
        mask[10:40, 20:50] = 255
        iio.imwrite(tmp_path / "masks" / f"{name}_mask.png", mask)
        lines.append(f"{name},{kind},patient {name[0]},{'test' if name == 'b1' else 'train'}")
    (tmp_path / "classes.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def study(folder):
    ok("new", folder / "s", folder / "normal", folder / "ill" / "b1.png")
    return folder / "s.mtssl"


def test_new_takes_masks_and_a_table(folder):
    ok(
        *("new", folder / "s", folder / "normal", folder / "ill", "--masks", folder / "masks"),
        *("--mask-class", "lung", "--classes-csv", folder / "classes.csv"),
    )
    with Study.open(folder / "s") as made:
        assert [(i.name, i.group, i.split) for i in made.images()] == [
            ("a1.png", "patient a", "train"),
            ("a2.png", "patient a", "train"),
            ("b1.png", "patient b", "test"),
        ]
        assert made.image_classes()["class"].tolist() == ["normal", "normal", "ill"]
        assert [(made.mask(i) > 0).sum() for i in made.masked_images()] == [900] * 3


def test_new_takes_folders_as_classes(folder):
    ok(
        *("new", folder / "s", folder / "normal", folder / "ill", "--class-folders", "--kind", "finding"),
        *("--group-before", "1"),
    )
    with Study.open(folder / "s") as made:
        assert [i.group for i in made.images()] == ["a", "a2", "b"]
        table = made.image_classes()
        assert table["kind"].unique().tolist() == ["finding"]
        assert table["class"].tolist() == ["normal", "normal", "ill"]


def test_new_leaves_out_masks_that_lie_among_the_images(folder):
    iio.imwrite(folder / "normal" / "a1@.png", np.zeros((60, 80), np.uint8))
    ok("new", folder / "s", folder / "normal", "--masks", folder / "normal", "--mask-class", "lung")
    with Study.open(folder / "s") as made:
        assert [i.name for i in made.images()] == ["a1.png", "a2.png"]
        assert made.masked_images() == [1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--masks", "nowhere"], "There is nothing at nowhere; check the path"),
        (["--classes-csv", "nowhere.csv"], "There is nothing at nowhere.csv"),
        (["--masks", "{folder}/normal"], "No file in"),
        (["--masks", "{folder}/masks"], "There is no classes.csv in"),
        (["--classes-csv", "{folder}/wrong.csv"], "image is missing"),
        (["--class-folders", "--kind", "cell"], "not for whole images"),
        (["{folder}/empty"], "There are no images in the folder"),
    ],
)
def test_new_with_something_wrong_leaves_nothing(folder, options, sentence):
    (folder / "wrong.csv").write_text("picture,class\na1,x\n")
    (folder / "empty").mkdir()
    said = refused("new", folder / "s", folder / "normal", *(o.format(folder=folder) for o in options))
    assert sentence in said
    assert not (folder / "s.mtssl").exists()


def test_blocks(study, tmp_path):
    (tmp_path / "b.csv").write_text("image,row,col,class\na1.png,0,1,much\nb1,2,2,little\n")
    ok("import", study, tmp_path / "b.csv", "--as", "blocks", "--block", "20x25")
    with Study.open(study) as made:
        assert made.grid(1) == Grid(20.0, 25.0)
        assert made.blocks(1).to_numpy().tolist() == [[0, 1, "much"]]
    ok("export", study, "--as", "blocks", "--csv", tmp_path / "c.csv")
    assert pd.read_csv(tmp_path / "c.csv").columns.tolist() == ["image", "row", "col", "class"]
    ok("export", study, "--as", "blocks", "--csv", tmp_path / "d.csv", "--details")
    assert pd.read_csv(tmp_path / "d.csv")["width"].tolist() == [25, 25]
    ok("export", study, "--as", "blocks", "--geojson", tmp_path / "out" / "{image}.geojson")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a1.geojson", "a2.geojson", "b1.geojson"]
    said = ok("import", study, tmp_path / "out" / "a1.geojson", "--as", "blocks", "--image", "a1")
    assert "0 blocks added, 1 already there" in said.stderr


def test_blocks_in_micrometres(folder, tmp_path):
    ok("new", folder / "s", folder / "normal", "--pixel-size", "0.5")
    np.save(tmp_path / "a1.npy", np.linspace(0, 1, 12).reshape(3, 4))
    ok(
        *("import", folder / "s", tmp_path / "a1.npy", "--as", "probability-map"),
        *("--block", "10um", "--edges", "0,.5,1"),
    )
    with Study.open(folder / "s") as made:
        assert made.grid(1) == Grid(20.0, 20.0)
        assert made.blocks(1)["class"].tolist() == ["0-50 %"] * 6 + ["50-100 %"] * 6


def test_masks(study, folder, tmp_path):
    ok("import", study, folder / "masks", "--as", "masks", "--class", "lung")
    ok(
        "import",
        study,
        folder / "masks" / "a1_mask.png",
        "--as",
        "masks",
        "--image",
        "a1",
        "--class",
        "255=lung",
    )
    ok("export", study, "--as", "masks", "--png", tmp_path / "png")
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == [
        "a1.png",
        "a2.png",
        "b1.png",
        "classes.csv",
    ]
    ok("export", study, "--as", "masks", "--zarr", tmp_path / "{image}.zarr")
    ok("export", study, "--as", "masks", "--geojson", tmp_path / "a1.geojson", "--image", "a1")
    with Study.open(study) as made:
        expected = made.mask(1)
        for image in made.images():
            made.clear_mask(image.id)
    for path in ("png", "a1.zarr", "a1.geojson"):
        ok("import", study, tmp_path / path, "--as", "masks", *([] if path == "png" else ["--image", "a1"]))
        with Study.open(study) as made:
            np.testing.assert_array_equal(made.mask(1), expected)
            made.clear_mask(1)


def test_image_classes_and_statistics(study, folder, tmp_path):
    ok("import", study, folder / "classes.csv", "--as", "image-classes", "--kind", "finding")
    ok("export", study, "--as", "image-classes", "--csv", tmp_path / "c.csv")
    assert pd.read_csv(tmp_path / "c.csv")["class"].tolist() == ["normal", "normal", "ill"]
    with Study.open(study) as made:
        made.add_class("much", kind="block")
        made.add_class("gland", kind="mask")
    (tmp_path / "s.csv").write_text("block_class,mask_class,mean,spread\nmuch,gland,90%,5%\n")
    ok("import", study, tmp_path / "s.csv", "--as", "statistics")
    ok("export", study, "--as", "statistics", "--csv", tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["mean"].tolist() == [0.9]


def test_another_study(study, folder):
    ok("import", study, folder / "classes.csv", "--as", "image-classes")
    ok("new", folder / "mine", folder / "normal")
    said = ok("import", folder / "mine", study)
    assert "3 image classes added" in said.stderr
    with Study.open(folder / "mine") as mine:
        assert len(mine.images()) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import", "b.csv", "--as", "blocks"], "needs the columns image,row,col,class"),
        (["import", "ok.csv", "--as", "blocks"], "a1.png has no grid: say how large its blocks are"),
        (["import", "ok.csv", "--as", "blocks", "--block", "big"], "'big' is no size of blocks; write 64"),
        (["import", "ok.csv", "--as", "blocks", "--block", "9um"], "images of one known pixel size"),
        (["import", "m.png", "--as", "blocks"], "m.png has no blocks: use .csv"),
        (["import", "m.png", "--as", "masks", "--image", "a1"], "Say with --class which class m.png has"),
        (["import", "m.png", "--as", "masks", "--class", "x"], "say which one with --image NAME"),
        (["import", "m.png", "--as", "masks", "--image", "a1", "--class", "x"], "but a1.png has 60 rows"),
        (
            ["import", "m.png", "--as", "masks", "--image", "a1", "--class", "1=x,y"],
            "names no classes of values",
        ),
        (["import", "b.csv", "--as", "masks", "--image", "a1"], "b.csv is no mask: use a label image"),
        (["import", "b.csv", "--as", "blocks", "--image", "zzz"], "leave it out for b.csv"),
        (["export", "--csv", "x.csv", "--image", "a1"], "A table holds all images: leave out --image"),
        (["import", "m.png", "--as", "image-classes"], "m.png is no table: use .csv (image,class,group"),
        (["import", "m.png", "--as", "statistics"], "m.png is no table: use .csv (block_class"),
        (
            ["import", "m.png", "--as", "probability-map", "--image", "a1", "--edges", "0,1,2"],
            "ascend from 0",
        ),
        (
            ["import", "m.png", "--as", "probability-map", "--image", "a1", "--edges", "a"],
            "no list of numbers",
        ),
        (["import", "nowhere.csv", "--as", "blocks"], "There is no file"),
        (["export", "--as", "blocks", "--png", "x"], "There is no --png of blocks: use --geojson or --csv"),
        (["export", "--as", "masks", "--csv", "x"], "There is no --csv of masks: use --png or --zarr or"),
        (["export", "--as", "masks", "--png", "x"], "has no masks to export"),
        (["export", "--as", "masks", "--zarr", "x.zarr", "--image", "a1"], "There is no mask of a1.png"),
        (["export", "--as", "masks"], "Say where to export to"),
        (
            ["export", "--as", "image-classes", "--csv", "x", "--kind", "grade"],
            "no classes of the kind 'grade'",
        ),
    ],
)
def test_one_clear_sentence(study, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.csv").write_text("image,class\na1,much\n")
    (tmp_path / "ok.csv").write_text("image,row,col,class\na1.png,0,0,much\n")
    iio.imwrite(tmp_path / "m.png", np.ones((5, 5), np.uint8))
    command, *rest = arguments
    assert sentence in refused(command, study, *rest)


@pytest.fixture
def pair(folder):
    """A study of two images of one name, as scanners call them, each with a mask of its own."""
    for number in (1, 2):
        (folder / f"PAT{number}").mkdir()
        iio.imwrite(folder / f"PAT{number}" / "IM0001.png", np.full((60, 80), number, np.uint8))
    ok("new", folder / "pair", folder / "PAT1", folder / "PAT2", "--mask-class", "lung")
    with Study.open(folder / "pair") as made:
        code = made.class_named("lung", "mask").code
        for image in made.images():
            made.paint_mask(image.id, 0, 0, np.full((image.id, 5), code, np.uint16))
    return folder / "pair.mtssl"


@pytest.mark.parametrize("ending", [".geojson", ".ome.zarr"])
def test_masks_of_images_of_one_name_are_not_mixed_up(pair, tmp_path, ending):
    way = "--geojson" if ending == ".geojson" else "--zarr"
    ok("export", pair, "--as", "masks", way, tmp_path / "out" / f"{{image}}{ending}")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"PAT1_IM0001{ending}", f"PAT2_IM0001{ending}"]
    with Study.open(pair) as made:
        masks = [made.mask(image.id) for image in made.images()]
        for image in made.images():
            made.clear_mask(image.id)
    ok("import", pair, *files, "--as", "masks")
    with Study.open(pair) as made:
        np.testing.assert_array_equal([made.mask(image.id) for image in made.images()], masks)
    files[0].rename(tmp_path / f"IM0001{ending}")
    said = refused("import", pair, tmp_path / f"IM0001{ending}", "--as", "masks")
    assert f"rename it to PAT1_IM0001{ending} or PAT2_IM0001{ending}" in said
    ok("import", pair, tmp_path / f"IM0001{ending}", "--as", "masks", "--image", "PAT1_IM0001")


def test_a_folder_s_name_is_the_group(pair, folder):
    with Study.open(pair) as made:
        assert [image.group for image in made.images()] == ["IM0001", "PAT2_IM0001"]
    images = (folder / "PAT1", folder / "PAT2")
    ok("new", folder / "b", *images, "--group-folder", 1)
    ok("new", folder / "c", *images, "--group-folder", 2)
    for name, groups in (("b", ["PAT1", "PAT2"]), ("c", [folder.name] * 2)):
        with Study.open(folder / name) as made:
            assert [image.group for image in made.images()] == groups
    assert "not lie in so many folders" in refused("new", folder / "d", *images, "--group-folder", 99)
    both = ("--group-folder", 1, "--group-before", "_")
    assert "say --group-before or --group-folder" in refused("new", folder / "d", *images, *both)
    assert not (folder / "d.mtssl").exists()


def test_predicted_masks_come_in_only_when_asked_for(study, tmp_path):
    probs = np.zeros((2, 60, 80), np.float32)
    probs[1] = 1
    with Study.open(study) as made:
        code = made.add_class("lung", kind="mask").code
        made.paint_mask(1, 0, 0, np.full((60, 80), code, np.uint16))
        made.set_mask_prediction(2, "run", (0, 0, 60, 80), probs, (1, 1), ["background", "lung"])
    ok("export", study, "--as", "masks", "--predictions", "--png", tmp_path / "m")
    ok("export", study, "--as", "masks", "--predictions", "--zarr", tmp_path / "z" / "{image}.ome.zarr")
    for folder, one in (("m", "a2.png"), ("z", "a2.ome.zarr")):
        with Study.open(study) as made:
            for image in made.images():
                made.clear_mask(image.id)
        said = ok("import", study, tmp_path / folder, "--as", "masks").stderr
        assert "1 prediction left out (nobody reviewed them). With --predictions they are taken" in said
        single = ("import", study, tmp_path / folder / one, "--as", "masks", "--class", "1=lung")
        assert "only 1 prediction that nobody reviewed" in refused(*single)
        for again in (single, ("import", study, tmp_path / folder, "--as", "masks")):
            with Study.open(study) as made:
                made.clear_mask(2)
            ok(*again, "--predictions")
            with Study.open(study) as made:
                assert made.mask_state(2).source == "model" and made.mask(2).all()
