"""A slide that does not say how large its pixels are: asked once, and remembered."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from napari_mtssl.cli import pixel_sizes
from napari_mtssl.cli.console import UsageError
from napari_mtssl.images import open_image
from napari_mtssl.study import Study


@pytest.fixture
def slides(tmp_path):
    for name in ("a.png", "b.png"):
        iio.imwrite(tmp_path / name, np.zeros((20, 30, 3), np.uint8))
    return [open_image(tmp_path / name) for name in ("a.png", "b.png")]


@pytest.fixture
def study(tmp_path, slides):
    with Study.create(tmp_path / "s.mtssl") as made:
        made.add_image(slides[0].path, height=20, width=30)
        yield made


@pytest.fixture
def asked(monkeypatch):
    """Answers to come, and questions that were put."""
    answers, questions = [0.25], []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def prompt(question, **_):
        questions.append(question)
        return answers.pop()

    monkeypatch.setattr(pixel_sizes.typer, "prompt", prompt)
    return questions


def test_asked_once_and_remembered(slides, study, tmp_path, asked):
    pixel_sizes.settle(slides, study, tmp_path)
    assert [image.pixel_size_um for image in slides] == [0.25, 0.25]
    assert len(asked) == 1 and "a.png" in asked[0] and "1 others" in asked[0]
    assert study.images()[0].pixel_size_um == 0.25
    assert json.loads((tmp_path / pixel_sizes.REMEMBERED).read_text()) == {"b.png": 0.25}
    again = [open_image(image.path) for image in slides]
    pixel_sizes.recall(again, study, tmp_path)
    pixel_sizes.settle(again, study, tmp_path)
    assert [image.pixel_size_um for image in again] == [0.25, 0.25]
    assert len(asked) == 1


def test_nobody_to_ask(slides, study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match="--pixel-size"):
        pixel_sizes.settle(slides, study, tmp_path)
    assert pixel_sizes.ask(slides, must=False) is None
    assert pixel_sizes.ask([]) is None


def test_an_impossible_size(slides, study, tmp_path, asked, monkeypatch):
    monkeypatch.setattr(pixel_sizes.typer, "prompt", lambda *_, **__: -1.0)
    with pytest.raises(UsageError, match="positive"):
        pixel_sizes.settle(slides, study, tmp_path)
