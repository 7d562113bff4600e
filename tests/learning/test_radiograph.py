import pytest
import torch

from napari_mtssl.learning.radiograph import (
    GeometryRange,
    LooksRange,
    add_air,
    add_clutter,
    change_looks,
    move,
    move_filled,
    normalise,
    random_grid,
    same_place,
)
from napari_mtssl.learning.randaugment import randaugment

ALL = GeometryRange(True, 15, 0.2, 0.1, 0.1, 0.03)
LOOKS = LooksRange(0.7, 0.35, 0.4, 1.0, 0.06, 0.5, 0.5, 0.1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_grid_that_moves_nothing():
    images = torch.rand(2, 1, 16, 16)
    assert torch.allclose(move(images, same_place(2, 16, images.device)), images, atol=1e-5)
    still = random_grid(2, 16, GeometryRange(flips=False), images.device)
    assert torch.allclose(move(images, still), images, atol=1e-5)


def test_image_and_mask_stay_on_top_of_each_other():
    """A bright square is its own mask: both moved by one grid are still the same."""
    images = torch.zeros(8, 1, 64, 64)
    images[..., 20:40, 24:44] = 1
    grid = random_grid(8, 64, ALL, images.device)
    moved = move(images, grid)
    assert torch.equal(moved, move(images.clone(), grid))
    assert not torch.allclose(moved, images, atol=0.1)
    area = moved.sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert ((area > 0.4) & (area < 2)).all()


def test_what_lies_outside_is_filled():
    images = torch.full((30, 1, 16, 16), 0.5)
    grid = same_place(30, 16, images.device) * 2  # the image becomes half as large
    filled = move_filled(images, grid)
    corner = filled[:, 0, 0, 0]
    assert (filled[:, 0, 8, 8] == 0.5).all() and (corner == 0).any() and (corner == 0.5).any()


def test_looks_stay_in_range_and_differ():
    images = torch.rand(6, 1, 32, 32)
    changed = change_looks(images, LOOKS)
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    assert ((changed - images).abs().mean((1, 2, 3)) > 0.01).all()
    assert torch.equal(change_looks(images, LooksRange()), images)
    assert torch.equal(add_clutter(images, 0.0), images)


def test_air_lies_below_the_lung_and_never_in_it():
    images = torch.full((40, 2, 64, 64), 0.8)
    lung = torch.zeros(40, 1, 64, 64)
    lung[:, :, 10:30, 20:44] = 1
    lung[39] = 0
    changed = add_air(images, lung, 0.5)
    darker = (changed < images - 0.05).any(1)
    with_air = darker.flatten(1).any(1)
    assert 8 < int(with_air[:39].sum()) < 32
    assert not (darker & (lung[:, 0] > 0)).any() and changed.min() >= 0 and changed.max() <= 0.8
    assert not darker[:, 29:31, 20:44].any()  # a rim stays between lung and air
    middle = darker[:39].float().mean(0)
    assert middle[31:50].sum() > 0.8 * middle.sum()
    assert torch.equal(add_air(images, lung, 0.0), images)


def test_normalising_undoes_what_machines_do():
    images = torch.rand(4, 1, 32, 32)
    plain = normalise(images)
    assert torch.allclose(plain.mean((2, 3)), torch.zeros(4, 1), atol=1e-5)
    assert torch.allclose(normalise(images * 0.3 + 0.2), plain, atol=1e-3)
    curved = normalise(images**2, equalise=True)
    assert (curved - normalise(images, equalise=True)).abs().mean() < 0.05
    assert torch.isfinite(normalise(torch.zeros(1, 1, 8, 8), equalise=True)).all()


def test_randaugment_tells_where_pixels_went():
    images = torch.zeros(40, 1, 32, 32)
    images[..., 10:22, 12:20] = 1.0
    images[..., 0, 0] = 0.5
    changed, grid = randaugment(images)
    assert changed.shape == images.shape and grid.shape == (40, 32, 32, 2)
    moved = move(images, grid)
    shifted = (moved - images).abs().sum((1, 2, 3)) > 5
    assert 3 < int(shifted.sum()) < 37
    agree = (changed * moved).sum((1, 2, 3)) / moved.sum((1, 2, 3))
    assert (agree > 0.3).float().mean() > 0.6
