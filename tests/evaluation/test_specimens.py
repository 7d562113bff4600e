import imageio.v3 as iio
import numpy as np
import pytest

from napari_mtssl.evaluation.crossval import folds_by_group, inner_split
from napari_mtssl.evaluation.hep2 import keep_heads, read_specimens, synthetic
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.synthetic_hep2 import INTENSITIES, PATTERNS, specimens, write_i3a


def test_specimens_are_what_they_say_and_the_same_for_a_seed():
    items = specimens(28, 2, size=64, seed=1)
    again = specimens(28, 2, size=64, seed=1)
    assert len(items) == 56 and {item.pattern for item in items} == set(PATTERNS)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(items, again, strict=True))
    assert all(a.pattern == b.pattern for a, b in zip(items[::2], items[1::2], strict=True))
    assert all(item.mask.any() and not item.mask.all() for item in items)
    light = {name: [i.image[..., 1].max() for i in items if i.intensity == name] for name in INTENSITIES}
    assert np.mean(light["positive"]) > 1.3 * np.mean(light["intermediate"])
    inside = [i.image[..., 1][i.mask].mean() - i.image[..., 1][~i.mask].mean() for i in items]
    assert min(inside) > 3
    with pytest.raises(ValueError, match="48 pixels"):
        specimens(1, size=20)


def test_a_stranger_is_harder_than_a_known_patient():
    """Nearest neighbour on plain colours: a split by patient leaves less to recognise than a random one."""
    data = synthetic(40, 4, size=64, seed=2)
    features = data.images.reshape(len(data), -1, 3)
    features = np.concatenate([np.quantile(features, q, axis=1) for q in (0.05, 0.5, 0.9, 0.99)], axis=1)
    away = ((features[:, None] - features[None]) ** 2).sum(2)
    np.fill_diagonal(away, np.inf)
    same = data.groups[:, None] == data.groups[None]
    truth = data.labels["pattern"]
    known = (truth[away.argmin(1)] == truth).mean()
    strange = (truth[np.where(same, np.inf, away).argmin(1)] == truth).mean()
    assert known > strange + 0.2


def test_folds_keep_patients_whole_and_classes_spread():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    label = {"grade": (groups % 3 == 0).astype(int)}
    folds = folds_by_group(groups, label)
    assert set(folds) == set(range(5))
    assert all(len(set(folds[groups == g])) == 1 for g in np.unique(groups))
    share = [label["grade"][folds == k].mean() for k in range(5)]
    assert max(share) - min(share) < 0.15
    sizes = np.bincount(folds)
    assert sizes.max() < 1.3 * sizes.min()
    assert np.array_equal(folds, folds_by_group(groups, label))
    assert not np.array_equal(folds, folds_by_group(groups, label, seed=1))
    with pytest.raises(ValueError, match="fewer folds"):
        folds_by_group(np.array([1, 2]), {})


def test_inner_split_is_by_patient_too():
    groups = np.repeat(np.arange(20), 4)
    held = inner_split(groups, {"grade": groups % 2})
    assert 0.1 < held.mean() < 0.3
    assert not set(groups[held]) & set(groups[~held])


def test_reads_i3a_layout(tmp_path):
    items = specimens(8, 1, size=64, seed=0)
    write_i3a(items, tmp_path)
    data = read_specimens(tmp_path, 64)
    assert data.heads == ("pattern", "intensity") and len(data) == 8
    assert data.vocabulary["intensity"] == ("intermediate", "positive")
    assert np.array_equal(data.masks.astype(bool), np.stack([item.mask for item in items]))
    names = [data.vocabulary["pattern"][k] for k in data.labels["pattern"]]
    assert names == [item.pattern for item in items]
    assert len(set(data.groups)) == 8
    assert keep_heads(data, ["intensity"]).heads == ("intensity",)
    with pytest.raises(DataError, match="no 'grade'"):
        read_specimens(tmp_path, 64, ["grade"])


def test_a_name_with_a_dot_is_a_whole_name_and_no_row_is_read_twice(tmp_path):
    rows = ["id,pattern,intensity,specimen"]
    for number in range(3):
        iio.imwrite(tmp_path / f"s.{number}.png", np.full((40, 40, 3), 50 * number, np.uint8))
        rows.append(f"s.{number},nucleolar,positive,{number}")
    (tmp_path / "gt.csv").write_text("\n".join(rows))
    data = read_specimens(tmp_path, 64)
    assert data.names == ("s.0", "s.1", "s.2") and (data.masks == 255).all()
    assert data.images[:, 0, 0, 0].tolist() == [0, 50, 100]
    (tmp_path / "gt.csv").write_text("\n".join([*rows, "s.1.png,nucleolar,positive,9"]))
    with pytest.raises(DataError, match=r"names s\.1 twice"):
        read_specimens(tmp_path, 64)


@pytest.mark.parametrize("kind", ["green", "grey and opacity", "colours and opacity"])
def test_masks_are_read_whatever_they_are_painted_in(tmp_path, kind):
    items = specimens(3, 1, size=64, seed=0)
    write_i3a(items, tmp_path)
    for path in tmp_path.glob("*_mask.*"):
        inside = iio.imread(path) > 0
        painted = np.zeros((*inside.shape, {"green": 3, "grey and opacity": 2}.get(kind, 4)), np.uint8)
        if kind != "green":
            painted[..., -1] = 255
        painted[inside, 0 if kind == "grey and opacity" else 1] = 200
        path.unlink()
        iio.imwrite(path.with_suffix(".png"), painted)
    masks = read_specimens(tmp_path, 64).masks
    assert np.array_equal(masks.astype(bool), np.stack([item.mask for item in items]))


def test_masks_that_cannot_be_meant_are_refused(tmp_path):
    write_i3a(specimens(3, 1, size=64, seed=0), tmp_path)
    masks = sorted(tmp_path.glob("*_mask.*"))
    kept = masks[0].read_bytes()
    iio.imwrite(masks[0], np.full((32, 20), 255, np.uint8))
    with pytest.raises(DataError, match="32 x 20 pixels and its image 64 x 64"):
        read_specimens(tmp_path, 64)
    masks[0].write_text("no image")
    with pytest.raises(DataError, match=masks[0].name):
        read_specimens(tmp_path, 64)
    masks[0].write_bytes(kept)
    for path in masks:
        iio.imwrite(path, np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match=r"All masks in .* are empty"):
        read_specimens(tmp_path, 64)


def test_reads_glas_layout(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rows = ["patient ID,name,grade"]
    for number in range(3):
        image = np.full((40, 60, 3), 40 * number, np.uint8)
        mask = np.zeros((40, 60), np.uint8)
        mask[:20] = 255
        iio.imwrite(tmp_path / "images" / f"t_{number}.png", image)
        iio.imwrite(tmp_path / "labels" / f"t_{number}.png", mask)
        rows.append(f"{number % 2},t_{number},{'benign' if number else 'malignant'}")
    (tmp_path / "Grade.csv").write_text("\n".join(rows))
    data = read_specimens(tmp_path, 64)
    assert data.vocabulary == {"mask": ("background", "inside"), "grade": ("benign", "malignant")}
    assert data.labels["grade"].tolist() == [1, 0, 0] and data.groups.tolist() == ["0", "1", "0"]
    assert (data.masks[:, :32] == 1).all() and (data.masks[:, 32:] == 0).all()
    (tmp_path / "labels" / "t_1.png").unlink()
    with pytest.raises(DataError, match=r"t_1 \(.png or .bmp\) is missing"):
        read_specimens(tmp_path, 64)


def test_glas_is_read_as_it_is_published(tmp_path):
    for number in range(2):
        iio.imwrite(tmp_path / f"t_{number}.bmp", np.full((40, 60, 3), 40 * number, np.uint8))
        iio.imwrite(tmp_path / f"t_{number}_anno.bmp", np.eye(40, 60, dtype=np.uint8) * 3)
    table = "name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\n"
    (tmp_path / "Grade.csv").write_text(table + "t_0, 1, benign, healthy\nt_1, 2, malignant, poor\n")
    data = read_specimens(tmp_path, 64)
    assert data.groups.tolist() == ["1", "2"] and data.labels["grade"].tolist() == [0, 1]
    assert (data.masks == 1).any((1, 2)).all()
    (tmp_path / "Grade.csv").write_text(table + "t_0, 1, , healthy\n")
    with pytest.raises(DataError, match="no grade of t_0"):
        read_specimens(tmp_path, 64)
    (tmp_path / "Grade.csv").write_text(table + "t_0, 1\n")
    with pytest.raises(DataError, match="no grade of t_0"):
        read_specimens(tmp_path, 64)
    (tmp_path / "Grade.csv").write_text(table + "t_0, 1, benign, healthy\nt_0, 2, benign, healthy\n")
    with pytest.raises(DataError, match="names t_0 twice"):
        read_specimens(tmp_path, 64)
    (tmp_path / "Grade.csv").write_bytes((table + "t_0, Müller, benign, healthy\n").encode("latin-1"))
    with pytest.raises(DataError, match="Save it as CSV in UTF-8"):
        read_specimens(tmp_path, 64)


def test_reads_agh_layout_without_its_scale_bar(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        iio.imwrite(tmp_path / "images" / f"{name}.png", np.full((48, 64, 3), 200, np.uint8))
    (tmp_path / "patterns.csv").write_text("file,pattern\na.png,HOM\nb.png,NUC\n")
    data = read_specimens(tmp_path, 64)
    assert data.heads == ("pattern",) and "mask" not in data.vocabulary
    assert (data.images[:, :6, :20] == 0).all() and (data.images[:, 10:] == 200).all()
    with pytest.raises(DataError, match="no known set"):
        read_specimens(tmp_path / "images", 64)
    with pytest.raises(DataError, match="There is no folder"):
        read_specimens(tmp_path / "elsewhere", 64)
    (tmp_path / "patterns.csv").write_text("file,pattern\n")
    with pytest.raises(DataError, match=r"patterns\.csv is empty"):
        read_specimens(tmp_path, 64)


@pytest.mark.data
def test_reads_the_real_sets(data_dir):
    for name, count, heads in (("glas", 129, ("grade",)), ("hep2_agh", 30, ("pattern",))):
        if not (data_dir / name).is_dir():
            pytest.skip(f"There is no {name} in {data_dir}.")
        data = read_specimens(data_dir / name, 64)
        assert len(data) == count and data.heads == heads


def test_a_study_is_a_set_too(tmp_path):
    from napari_mtssl.study import Study

    items = specimens(7, 1, size=64, seed=3)
    with Study.create(tmp_path / "own.mtssl") as study:
        for name in ("nucleus", "spindle"):
            study.add_class(name, kind="mask")
        for name in ("weak", "strong"):
            study.add_class(name, kind="severity")
        study.add_class("alone", kind="remark")
        for number, item in enumerate(items):
            file = tmp_path / f"{number}.png"
            iio.imwrite(file, item.image)
            record = study.add_image(file, height=64, width=64, group=f"p{number // 2}", split="test")
            if number:
                study.paint_mask(record.id, 0, 0, item.mask.astype("uint16") * 2)
                study.set_image_class(record.id, "severity", ("weak", "strong")[number % 2])
    found = read_specimens(tmp_path / "own.mtssl", 64)
    assert found.vocabulary == {"mask": ("background", "nucleus", "spindle"), "severity": ("weak", "strong")}
    assert found.labels["severity"].tolist() == [-1, 1, 0, 1, 0, 1, 0]
    assert list(found.groups) == ["p0", "p0", "p1", "p1", "p2", "p2", "p3"]
    assert (found.masks[0] == 255).all() and np.array_equal(found.images[3], items[3].image)
