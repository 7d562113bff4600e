import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `glands`, as pytest imports files by their path


@pytest.fixture(scope="session")
def made():
    """Made-up glands with their truth."""
    from napari_mtssl.evaluation.synthetic_tissue import tissue

    return [tissue(192, 224, seed=seed) for seed in range(4)]


@pytest.fixture(scope="session")
def study_path(made, tmp_path_factory):
    """A study of two of them."""
    from glands import make_study

    return make_study(tmp_path_factory.mktemp("tissue") / "glands.mtssl", made[:2])
