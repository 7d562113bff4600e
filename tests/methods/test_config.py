import pytest

from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import HydraMix, HydraMixConfig


def test_the_paper_preset_is_the_paper():
    config = HydraMix.configure("paper")
    assert (config.depth, config.widen, config.padding, config.window, config.patch) == (
        28,
        2,
        "zeros",
        32,
        41,
    )
    assert (config.views, config.temperature, config.mixup, config.mu) == (2, 0.5, 0.75, 0.75)
    assert config.delta_labelled > config.rho_labelled
    assert config.rho_unlabelled > config.delta_unlabelled
    assert config.ema == 0
    assert config.regression_head == "flatten"
    assert config.centroid_guess == "original"


def test_presets_differ_and_say_their_name():
    robust = HydraMix.configure("robust", seed=3)
    assert robust.preset == "robust"
    assert robust.seed == 3
    assert robust.padding == "valid"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depht": 3}, "depht: no such setting"),
        ({"temperature": 0}, "temperature: input should be greater than 0"),
        ({"variant": "gan"}, "variant: input should be"),
        ({"window": 37}, "window: input should be a multiple of 4"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(MethodError, match=words):
        HydraMix.configure("robust", **settings)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(MethodError, match="paper, robust"):
        HydraMix.configure("fast")


def test_every_setting_can_be_shown_in_a_form():
    for name, field in HydraMixConfig.model_fields.items():
        assert field.title or field.description, name
