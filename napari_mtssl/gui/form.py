"""A form made from a pydantic configuration: the fields, bounds and explanations are written once, there."""

from __future__ import annotations

import typing
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSizePolicy, QSpinBox, QWidget

LARGEST = 10_000_000
FIELD_WIDTH = 105


class ConfigForm(QWidget):
    """Widgets for the fields of a configuration class.

    Parameters
    ----------
    hidden : tuple of str
        Fields shown elsewhere.
    """

    def __init__(self, hidden: tuple[str, ...] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._hidden = hidden
        self._base: BaseModel | None = None
        self.fields: dict[str, QWidget] = {}
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(4, 0, 0, 0)
        self._layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self._layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def show_config(self, config: BaseModel) -> None:
        """Show the fields of `config` with its values; the first call makes the widgets."""
        self._base = config
        for name, info in type(config).model_fields.items():
            if name in self._hidden:
                continue
            if name not in self.fields:
                self._add(name, info)
            _set(self.fields[name], getattr(config, name))

    def clear(self) -> None:
        """Forget the fields: those of another method come."""
        while self._layout.rowCount():
            self._layout.removeRow(0)
        self.fields = {}
        self._base = None

    def overrides(self) -> dict[str, Any]:
        """Return settings that differ from the shown configuration, unchecked: pydantic judges them."""
        changed = {}
        for name, widget in self.fields.items():
            value = _get(widget)
            shown = getattr(self._base, name)
            if value != shown and _text(value) != _text(shown):
                changed[name] = value
        return changed

    def _add(self, name: str, info: FieldInfo) -> None:
        widget = make_widget(info)
        widget.setToolTip(info.description or "")
        if isinstance(widget, QComboBox):  # as wide as its longest choice
            widget.setMinimumWidth(FIELD_WIDTH)
            widget.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        else:
            widget.setFixedWidth(FIELD_WIDTH)
        label = info.title or name.replace("_", " ").capitalize()
        self._layout.addRow(label, widget)
        self._layout.labelForField(widget).setToolTip(info.description or "")
        self.fields[name] = widget


def make_widget(info: FieldInfo) -> QWidget:
    """Choose a widget for a field by its type; everything unusual is a line of YAML."""
    kind = info.annotation
    if kind is bool:
        return QCheckBox()
    if typing.get_origin(kind) is Literal:
        box = QComboBox()
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        for choice in typing.get_args(kind):
            box.addItem(str(choice), choice)
        return box
    if kind is int:
        return _spin_box(info)
    return QLineEdit()


def _spin_box(info: FieldInfo) -> QSpinBox:
    box = QSpinBox()
    low, high = -LARGEST, LARGEST
    for bound in info.metadata:
        low = max(low, getattr(bound, "ge", low), getattr(bound, "gt", low - 1) + 1)
        high = min(high, getattr(bound, "le", high), getattr(bound, "lt", high + 1) - 1)
    box.setRange(int(low), int(high))
    return box


def _set(widget: QWidget, value: Any) -> None:
    if isinstance(widget, QCheckBox):
        widget.setChecked(bool(value))
    elif isinstance(widget, QComboBox):
        widget.setCurrentIndex(widget.findData(value))
    elif isinstance(widget, QSpinBox):
        widget.setValue(value)
    else:
        widget.setText(_text(value))


def _get(widget: QWidget) -> Any:
    if isinstance(widget, QCheckBox):
        return widget.isChecked()
    if isinstance(widget, QComboBox):
        return widget.currentData()
    if isinstance(widget, QSpinBox):
        return widget.value()
    return parse(widget.text())


def parse(text: str) -> Any:
    """Read a line of YAML; numbers such as ``1e-3``, which YAML takes for text, too."""
    try:
        return float(text) if not text.strip().lstrip("+-").isdigit() else int(text)
    except ValueError:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text  # not valid for any field: pydantic's message names the setting


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return "" if value is None else str(value)
