"""``napari-mtssl demo tissue`` without a window."""

import pytest
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.study import Study


@pytest.mark.slow
def test_the_demo_draws_outlines_of_both_images_and_keeps_its_studies(tmp_path):
    for _ in range(2):  # the second time goes on from what is there
        arguments = ["demo", "tissue", "--headless", "--out", str(tmp_path), "--steps", "2"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
    report = (tmp_path / "report.md").read_text()
    assert "192 blocks on three images" in report and "Dice" in report
    for stem in ("glands3", "brown"):
        assert (tmp_path / f"{stem}.outlines.png").stat().st_size > 10_000
        assert (tmp_path / f"{stem}.areas.csv").is_file()
    with Study.open(tmp_path / "tissue.mtssl") as study:
        assert len(study.images()) == 4 and len(study.runs()) == 2
        assert not study.coarse_images("test") and not study.masked_images()
