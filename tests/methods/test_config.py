import pytest

from napari_mtssl.methods import get_method, method_names
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import HydraMix


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
        ({"depht": 3}, r"depht: no such setting; is depth meant\?$"),
        ({"zzz": 3}, r"zzz: no such setting\.$"),
        ({"temperature": 0}, "temperature: must be more than 0, not 0"),
        ({"variant": "gan"}, "variant: must be 'hydramix', 'no-sce' or 'cnn', not 'gan'"),
        ({"window": 37}, "window: must be a multiple of 4, not 37"),
        ({"batch_size": 100_000}, "batch_size: must be at most 4096, not 100000"),
        ({"batch_size": 2.5}, "batch_size: must be a whole number, not 2.5"),
        ({"learning_rate": float("inf")}, "learning_rate: must be "),
        ({"learning_rate": "fast"}, "learning_rate: must be a number, not 'fast'"),
        ({"steps": 0, "views": 9}, "steps: must be at least 1, not 0; views: must be at most 8, not 9"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(MethodError, match=words):
        HydraMix.configure("robust", **settings)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(MethodError, match="paper, robust"):
        HydraMix.configure("fast")


@pytest.mark.parametrize("method", method_names())
def test_every_setting_is_explained(method):
    for name, field in get_method(method).config_class.model_fields.items():
        assert field.description, name
        assert field.title or name == "preset"


@pytest.mark.parametrize("method", method_names())
def test_every_number_has_bounds(method):
    for name, field in get_method(method).config_class.model_fields.items():
        if field.annotation in (int, float):
            known = {b for item in field.metadata for b in ("ge", "gt", "le", "lt") if hasattr(item, b)}
            assert known & {"ge", "gt"}, name
            assert known & {"le", "lt"}, name
