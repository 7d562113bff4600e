from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError
from napari_mtssl.study.files import checksum

from .conftest import add_image, many_cells


def test_add(study: Study, tmp_path: Path) -> None:
    record = add_image(study, tmp_path / "a.ome.tif", 10, 20, pixel_size_um=0.5, split="test")
    assert record == ImageRecord(1, tmp_path / "a.ome.tif", record.checksum, 10, 20, 0.5, "a", "test")
    assert record.name == "a.ome.tif"
    assert study.images() == [record]
    assert study.images("test") == [record]
    assert study.images("train") == []


def test_a_dicom_number_is_a_group_of_its_own(study: Study, tmp_path: Path) -> None:
    names = ("1.2.840.113619.2.7", "1.2.840.113619.2.8.dcm", "P1.front.png")
    assert [add_image(study, tmp_path / name, 10, 20).group for name in names] == [*names[:2], "P1"]


def test_adding_twice_returns_the_same(study: Study, image: ImageRecord) -> None:
    again = study.add_image(str(image.path), height=1, width=1)
    assert again == image
    assert len(study.images()) == 1


def test_change_split_group_and_pixel_size(study: Study, image: ImageRecord) -> None:
    study.set_split(image.id, "validation")
    study.set_group(image.id, "patient 7")
    study.set_pixel_size(image.id, 0.25)
    changed = study.image(image.id)
    assert (changed.split, changed.group, changed.pixel_size_um) == ("validation", "patient 7", 0.25)
    for _ in range(3):
        study.undo()
    assert study.image(image.id) == image


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s, i: s.image(5), "no image number 5"),
        (
            lambda s, i: s.set_split(i, "holdout"),
            "'holdout' is no split. Choose one of: train, validation, test",
        ),
        (lambda s, i: s.set_pixel_size(i, 0), "cannot be 0 micrometres wide"),
        (lambda s, i: s.add_image("nowhere.png", height=1, width=1), "There is no image at .*nowhere.png"),
        (lambda s, i: s.find_image("slide9"), "no image 'slide9'; it has: slide1.png"),
    ],
)
def test_one_clear_sentence(study: Study, image: ImageRecord, act, sentence) -> None:
    before = study.images()
    with pytest.raises(StudyError, match=sentence):
        act(study, image.id)
    assert study.images() == before


def test_find_by_path_name_or_stem(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    zarr = add_image(study, tmp_path / "b.ome.tif")
    for name in (str(image.path), "slide1.png", "slide1"):
        assert study.find_image(name) == image
    for name in ("b.ome.tif", "b.ome", "b"):
        assert study.find_image(name) == zarr
    (tmp_path / "other").mkdir()
    add_image(study, tmp_path / "other" / "slide1.png")
    with pytest.raises(StudyError, match="more than one image of the study: write its whole path"):
        study.find_image("slide1")


def test_removing_an_image_takes_its_cells_and_undo_brings_both_back(
    study: Study, image: ImageRecord
) -> None:
    study.add_cells(many_cells(image.id, 20))
    before = study.cells()
    study.remove_image(image.id)
    assert study.images() == []
    assert study.cells().empty
    assert study.undo() == "Undone: Removed the image slide1.png with 20 cells"
    assert study.images() == [image]
    assert study.cells().equals(before)


def test_a_moved_image(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    assert study.problems() == []
    study.add_cell(image.id, 1, 1, "tumour")
    there = tmp_path / "elsewhere.png"
    shutil.move(image.path, there)
    (problem,) = study.problems()
    assert (problem.kind, problem.image) == ("moved", image)
    assert (
        problem.message
        == f"slide1.png is no longer at {image.path}. Say where it is now; its labels are kept."
    )
    moved = study.relocate_image(image.id, there)
    assert moved.path == there
    assert study.problems() == []
    assert len(study.cells(image.id)) == 1


def test_a_changed_image(study: Study, image: ImageRecord) -> None:
    image.path.write_bytes(b"other pixels, other size")
    (problem,) = study.problems()
    assert problem.kind == "changed"
    assert "has changed since it was added" in problem.message
    with pytest.raises(StudyError, match="its content differs"):
        study.relocate_image(image.id, image.path)
    accepted = study.relocate_image(image.id, image.path, accept_changed=True)
    assert accepted.checksum == checksum(image.path) != image.checksum
    assert study.problems() == []


def test_a_touched_image_has_not_changed(study: Study, image: ImageRecord) -> None:
    os.utime(image.path, (1, 1))
    assert study.problems() == []


def test_same_size_and_other_content_is_seen(study: Study, image: ImageRecord) -> None:
    content = image.path.read_bytes()
    image.path.write_bytes(bytes(reversed(content)))
    os.utime(image.path, (1, 1))
    assert [p.kind for p in study.problems()] == ["changed"]


def test_another_file_is_not_the_image(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    other = add_image(study, tmp_path / "other.png")
    with pytest.raises(StudyError, match=r"is not the image that was added as slide1.png"):
        study.relocate_image(image.id, other.path)
    other.path.write_bytes(image.path.read_bytes())
    with pytest.raises(StudyError, match="is another image of this study already"):
        study.relocate_image(image.id, other.path)


def test_images_that_moved_together_with_the_study_are_found(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    with Study.create(here / "s") as study:
        add_image(study, here / "a.png")
    here.rename(there)
    with Study.open(there / "s.mtssl") as study:
        assert study.images()[0].path == there / "a.png"
        assert study.problems() == []


def test_checksum_of_a_large_file_sees_its_size_its_ends_and_samples_between(tmp_path: Path) -> None:
    def written(size: int, *ones: int) -> str:
        path = tmp_path / "big.svs"
        with path.open("wb") as stream:
            stream.truncate(size)
            for position in ones:
                stream.seek(position)
                stream.write(b"\1")
        return checksum(path)

    size = 70 * 2**20
    sums = [
        written(size),
        written(size + 1),
        written(size, 0),
        written(size, size - 1),
        written(size, (size - 2**20) * 32 // 63),
    ]
    assert len(set(sums)) == len(sums)
    assert written(size) == sums[0]


def test_checksum_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    (folder / "0").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "0" / "c").write_bytes(b"1")
    first = checksum(folder)
    (folder / "zarr.json").write_text("[]")
    assert checksum(folder) != first
    (folder / "zarr.json").write_text("{}")
    assert checksum(folder) == first
    (folder / "0" / "d").write_bytes(b"1")
    assert checksum(folder) != first
