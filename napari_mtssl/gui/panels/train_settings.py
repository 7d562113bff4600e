"""Settings of a training: method, network, preset, where it runs, and every field of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_mtssl.engine.runners import PROCESS, THREAD, check_runner
from napari_mtssl.gui.form import ConfigForm
from napari_mtssl.gui.jobs import TrainRequest
from napari_mtssl.gui.rows import note
from napari_mtssl.gui.workspace import Workspace
from napari_mtssl.methods import method_names

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_mtssl.study import Study

PRESETS = {"robust": "Robust (ours)", "paper": "Paper (as published)"}
DEVICES = {
    "auto": "Automatic",
    "cpu": "Processor (CPU)",
    "cuda": "NVIDIA graphics (CUDA)",
    "mps": "Apple graphics (MPS)",
}
RUNNERS = {THREAD: "This program", PROCESS: "A process of its own"}
NEW = "New network"
HIDDEN = ("preset", "steps")
STEPS = 1500  # until the library is loaded, which has the presets


class TrainSettings(QWidget):
    """The form above the buttons of step 3.

    Attributes
    ----------
    runs : list of str
        Networks trained in this study with the method, the newest first.
    """

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._config: BaseModel | None = None
        self.runs: list[str] = []
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        self.method = note()
        self.preset = choice(PRESETS, "Where the settings come from")
        self.preset.currentIndexChanged.connect(self._preset_chosen)
        self.steps = QSpinBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setValue(STEPS)
        self.steps.setToolTip(
            "Optimiser updates. In live mode: of the first round, before it waits for new labels."
        )
        self.device = choice(DEVICES, "Where the network is trained")
        self.where = choice(
            RUNNERS,
            "A process of its own gives memory back when it ends, and the window survives its crash. "
            "For a Dask cluster type its address, tcp://HOST:PORT; it must see the study where it is here.",
        )
        self.where.setEditable(True)
        self.where.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.mode = choice(
            {True: "Live: go on with every new label", False: "Update once, then predict"},
            "Live takes in new and corrected labels while it trains and afterwards, until you press Stop.",
        )
        self.network = choice({NEW: NEW}, "Begin anew, or go on with a network trained before")
        self.resume_note = QLabel("<small>It keeps its own settings; steps come on top.</small>")
        self.resume_note.hide()
        self.network.currentIndexChanged.connect(lambda at: self.resume_note.setVisible(at > 0))
        for label, widget in (
            ("Method", self.method),
            ("Mode", self.mode),
            ("Network", self.network),
            ("", self.resume_note),
            ("Preset", self.preset),
            ("Steps", self.steps),
            ("Runs on", self.device),
            ("Runs in", self.where),
        ):
            form.addRow(label, widget)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.addLayout(form)
        self.advanced = QCollapsible("Advanced settings")
        self.advanced_note = note("The settings appear as soon as the network library is loaded.")
        self.form = ConfigForm(hidden=HIDDEN)
        self.advanced.toggled.connect(self._opened)
        self.advanced.addWidget(self.advanced_note)
        self.advanced.addWidget(self.form)
        layout.addWidget(self.advanced)

    def put_before_advanced(self, widget: QWidget) -> None:
        """Show something between the usual settings and the others."""
        self.layout().insertWidget(self.layout().indexOf(self.advanced), widget)

    @property
    def widgets(self) -> tuple[QWidget, ...]:
        """What cannot be changed while something runs."""
        return (self.mode, self.network, self.preset, self.steps, self.device, self.where, self.form)

    # -- showing -------------------------------------------------------------------------------------------

    def library_ready(self) -> None:
        """Read the presets; called when the network library is loaded."""
        typed = self.steps.value()
        self.advanced_note.hide()
        self._preset_chosen()
        if typed != STEPS:  # somebody was quicker than the library
            self.steps.setValue(typed)

    def installed(self) -> bool:
        """Whether there is the method that learns what is labelled."""
        return self._workspace.task.method in method_names()

    def show_task(self) -> None:
        """Show the settings of the method that learns what is labelled now."""
        task = self._workspace.task
        known = self.installed()
        self.method.setText(task.method if known else f"⚠ No installed package has the method {task.method}.")
        self.form.clear()
        self._config = None
        self._preset_chosen()

    def _preset_chosen(self) -> None:
        if not self.advanced_note.isHidden():
            return
        from napari_mtssl.methods import get_method

        if not self.installed():
            return
        chosen = get_method(self._workspace.task.method)
        self.method.setText(chosen.title)
        preset = self.preset.currentData()
        self._config = chosen.configure(preset if preset in chosen.presets else next(iter(chosen.presets)))
        self.steps.setValue(self._config.steps)
        if self.advanced.isExpanded() or self.form.fields:
            self._show_form()

    def _opened(self) -> None:
        if not self.form.fields:  # what the user has set stays when the section is closed and opened again
            self._show_form()

    def _show_form(self) -> None:
        """Make the form when it is first looked at: fifty fields would be felt at any other time."""
        if self._config is not None:
            self.form.show_config(self._config)

    def refresh(self) -> None:
        """Show the networks of the study."""
        study, method = self._workspace.study, self._workspace.task.method
        found = reversed(study.runs()) if study is not None else []
        runs = [run.name for run in found if run.method == method]
        self.runs = [name for name in runs if any((study.path / "runs" / name).glob("*.safetensors"))]
        fill(self.network, [NEW, *(f"Go on with {name}" for name in self.runs)])

    def forget(self) -> None:
        """Another study: its networks may have the names of others."""
        self.network.setCurrentIndex(0)

    def go_on_with(self, run: str) -> None:
        """Offer to go on with a network, if it is one of the study and of the method."""
        if run in self.runs:
            self.network.setCurrentIndex(self.runs.index(run) + 1)

    # -- saying --------------------------------------------------------------------------------------------

    def request(self, study: Study) -> TrainRequest:
        """Say what is asked for."""
        resume = self.runs[self.network.currentIndex() - 1] if self.network.currentIndex() > 0 else None
        return TrainRequest(
            study.path,
            self._workspace.task.method,
            self.preset.currentData(),
            self.device.currentData(),
            self.form.overrides() if resume is None else {},
            resume,
            self.steps.value(),
            bool(self.mode.currentData()),
            self.runner_name(),
        )

    def check(self, study: Study) -> None:
        """Say at once which labels are missing, where the library is there to tell.

        Raises
        ------
        MethodError
            If the labels, or the settings, do not allow training.
        """
        if self.network.currentIndex() > 0 or not self.advanced_note.isHidden():
            return  # the thread will tell
        from napari_mtssl.methods import get_method

        method = get_method(self._workspace.task.method)
        preset = self.preset.currentData()
        method.check_labels(study, method.configure(preset, **self.form.overrides()))

    def runner_name(self) -> str:
        """Say where training runs, as chosen or typed: thread, process, or an address."""
        text = self.where.currentText().strip()
        return next((name for name, said in RUNNERS.items() if said == text), None) or check_runner(text)


def fill(box: QComboBox, texts: list[str]) -> None:
    """Offer these choices; what was chosen stays so if it is still among them."""
    chosen = box.currentText()
    box.clear()
    box.addItems(texts)
    box.setCurrentIndex(max(box.findText(chosen), 0))


def choice(options: dict[Any, str], tip: str) -> QComboBox:
    """Make a box of choices; each has a value of its own."""
    box = QComboBox()
    for key, text in options.items():
        box.addItem(text, key)
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box
