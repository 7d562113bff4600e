import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.learning.augment import (
    AffineRange,
    ColourRange,
    blur,
    centre_crop,
    jitter_colour,
    jitter_stain,
    move_points,
    random_affine,
    warp,
)


def blobs(points: torch.Tensor, size: int, sigma: float = 2.5) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float32)
    rows = torch.exp(-0.5 * ((axis - points[:, :1]) / sigma) ** 2)
    cols = torch.exp(-0.5 * ((axis - points[:, 1:]) / sigma) ** 2)
    return (rows[:, :, None] * cols[:, None, :])[:, None]


def centre_of_mass(images: torch.Tensor) -> torch.Tensor:
    mass = images[:, 0]
    axis = torch.arange(mass.shape[-1], dtype=torch.float32)
    total = mass.sum((1, 2))
    return torch.stack([(mass.sum(2) * axis).sum(1) / total, (mass.sum(1) * axis).sum(1) / total], 1)


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0, 0.3),
    shift=st.floats(0, 5),
    size=st.sampled_from([32, 41, 48]),
)
@settings(max_examples=25, deadline=None)
def test_points_go_where_pixels_go(seed, scale, shift, size):
    # H5: a rendered blob's centre of mass after the warp is where its centre is sent, within 0.1 px.
    torch.manual_seed(seed)
    count, source = 4, 64
    points = (source - 1) / 2 + (torch.rand(count, 2) * 2 - 1) * 3
    limits = AffineRange(flips=True, rotation=180.0, scale=scale, stretch=0.05)
    matrix = random_affine(count, source, size, limits, torch.full((count,), shift))
    warped = warp(blobs(points, source), matrix, size)
    torch.testing.assert_close(centre_of_mass(warped), move_points(points, matrix), atol=0.1, rtol=0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_going_back_through_the_affine_restores_points(seed):
    torch.manual_seed(seed)
    points = torch.rand(5, 2) * 40
    matrix = random_affine(5, 41, 32, AffineRange(scale=0.3, stretch=0.2), torch.full((5,), 4.5))
    back = move_points(move_points(points, matrix), torch.linalg.inv(matrix))
    torch.testing.assert_close(back, points, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_flipping_twice_is_the_identity(axis):
    # H5, exactly: column x goes to P - 1 - x.
    size = 33
    matrix = torch.eye(3)[None].clone()
    matrix[0, axis, axis], matrix[0, axis, 2] = -1.0, size - 1.0
    image = torch.rand(1, 3, size, size)
    once = warp(image, matrix, size)
    torch.testing.assert_close(once, image.flip(3 if axis == 0 else 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(warp(once, matrix, size), image, atol=1e-5, rtol=1e-5)
    point = torch.tensor([[4.0, 7.0]])
    expected = torch.tensor([[4.0, 25.0]]) if axis == 0 else torch.tensor([[28.0, 7.0]])
    torch.testing.assert_close(move_points(point, matrix), expected)


def test_centre_crop_takes_whole_pixels():
    image = torch.rand(2, 3, 41, 41)
    matrix = centre_crop(2, 41, 32)
    torch.testing.assert_close(warp(image, matrix, 32), image[:, :, 4:36, 4:36], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        move_points(torch.tensor([[20.0, 20.0]] * 2), matrix), torch.full((2, 2), 16.0)
    )


def test_shift_stays_within_its_limit_for_each_patch():
    torch.manual_seed(0)
    limit = torch.tensor([0.0, 2.0, 8.0]).repeat(200)
    matrix = random_affine(600, 64, 32, AffineRange(), limit)
    middle = move_points(torch.full((600, 2), 31.5), torch.linalg.inv(matrix) * 0 + matrix)
    moved = (middle - 15.5).abs().view(200, 3, 2)
    # rotated, so the bound is the diagonal
    assert moved[:, 0].max() < 1e-4
    assert 2.0 < moved[:, 1].norm(dim=-1).max() <= 2.0 * 2**0.5 + 1e-4
    assert 8.0 < moved[:, 2].norm(dim=-1).max() <= 8.0 * 2**0.5 + 1e-4


def test_no_stain_change_is_the_identity():
    images = torch.rand(3, 3, 8, 8).clamp_min(0.01)
    torch.testing.assert_close(jitter_stain(images, 0.0), images, atol=1e-5, rtol=1e-5)


def test_stain_change_leaves_glass_nearly_white_and_differs_by_image():
    torch.manual_seed(0)
    white = torch.ones(50, 3, 4, 4)
    changed = jitter_stain(white, 0.2)
    assert (changed - 1).abs().max() < 0.09  # only the bias acts: 3 stains x 0.04 at most
    purple = torch.tensor([0.4, 0.3, 0.6]).view(1, 3, 1, 1).repeat(50, 1, 4, 4)
    assert jitter_stain(purple, 0.2).std(0).max() > 0.01


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_colours_stay_in_range(seed):
    torch.manual_seed(seed)
    images = torch.rand(6, 3, 12, 12)
    changed = jitter_colour(images, ColourRange(stain=0.4, contrast=0.5, brightness=0.3, blur=1.0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.isfinite(changed).all()


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 16, 16)
    soft = blur(images, torch.tensor([0.0, 0.5, 1.0, 1.5]))
    torch.testing.assert_close(soft[0], images[0], atol=1e-5, rtol=1e-5)
    spread = soft.std((1, 2, 3))
    assert (spread[1:] < spread[:-1]).all()
    assert (soft.mean((1, 2, 3)) - images.mean((1, 2, 3))).abs().max() < 0.02


def test_the_same_seed_gives_the_same_view():
    def view():
        torch.manual_seed(7)
        matrix = random_affine(3, 48, 32, AffineRange(scale=0.2), torch.full((3,), 4.0))
        return jitter_colour(
            warp(torch.ones(3, 3, 48, 48) * 0.5, matrix, 32), ColourRange(0.2, 0.2, 0.1, 0.5)
        )

    assert torch.equal(view(), view())
