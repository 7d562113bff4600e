"""The form of settings comes from the pydantic class, and says only what was changed."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

from napari_mtssl.gui.form import ConfigForm, parse

pytestmark = pytest.mark.gui


class Settings(BaseModel):
    count: int = Field(3, ge=1, lt=10, title="How many", description="A number.")
    rate: float = Field(1e-3, gt=0)
    on: bool = True
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, int] = (1, 2)
    secret: int = 5


@pytest.fixture
def form(qtbot):
    made = ConfigForm(hidden=("secret",))
    qtbot.addWidget(made)
    made.show_config(Settings())
    return made


def test_each_type_has_its_widget_with_bounds_and_explanation(form):
    kinds = {name: type(widget) for name, widget in form.fields.items()}
    assert kinds == {
        "count": QSpinBox,
        "rate": QLineEdit,
        "on": QCheckBox,
        "kind": QComboBox,
        "pair": QLineEdit,
    }
    assert (form.fields["count"].minimum(), form.fields["count"].maximum()) == (1, 9)
    assert form.fields["count"].toolTip() == "A number."


def test_only_what_was_changed_is_an_override(form):
    assert form.overrides() == {}
    form.fields["count"].setValue(7)
    form.fields["rate"].setText("2e-4")
    form.fields["on"].setChecked(False)
    form.fields["kind"].setCurrentText("b")
    form.fields["pair"].setText("[4, 5]")
    changed = form.overrides()
    assert changed == {"count": 7, "rate": 2e-4, "on": False, "kind": "b", "pair": [4, 5]}
    assert Settings(**changed).pair == (4, 5)


def test_another_preset_shows_its_values(form):
    form.show_config(Settings(count=9, rate=0.5))
    assert form.fields["count"].value() == 9
    assert form.overrides() == {}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("3", 3), ("true", True), ("", None), ("[1, 2]", [1, 2])]
)
def test_lines_are_read_as_numbers_or_yaml(text, value):
    assert parse(text) == value


def test_every_setting_of_the_method_is_in_its_form(qtbot):
    from napari_mtssl.methods import get_method

    config = get_method("hydramix").configure("robust")
    form = ConfigForm(hidden=("preset", "steps"))
    qtbot.addWidget(form)
    form.show_config(config)
    assert set(form.fields) == set(type(config).model_fields) - {"preset", "steps"}
    assert form.overrides() == {}
