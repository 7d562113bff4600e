import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.engine import events as said
from napari_mtssl.methods.prediction import Prediction

FRAME = pd.DataFrame({"row": [1.0, 2.0], "col": [1.0, 2.0]})
PREDICTION = Prediction(FRAME, pictures={"uncertainty": np.zeros((2, 2))})
EVENTS = [
    said.Started(0, 10, "cpu", 5, 6),
    said.Stepped(1, 10, {"a": 1.0}, {"a": 0.5}, 0.5, 3.0, 3.0),
    said.PseudoLabels(1, FRAME),
    said.Preview(1, 2, (0, 0, 8, 8), PREDICTION, (4, 4), 1, 9),
    said.Validated(2, {"accuracy": 0.5}, True),
    said.CheckpointWritten(2, Path("last.safetensors"), "last"),
    said.LabelsChanged(3, 7, 2, 1, 0),
    said.ClassesLeftOut(4, ("heart",), "is new"),
    said.LossNotFinite(4, 3, "went back"),
    said.OutOfMemory(4, 32, 16, "halved"),
    said.Paused(4),
    said.Resumed(4),
    said.WorkerLost(4, "went away"),
    said.Finished(10, False, Path("run"), {"accuracy": 0.5}),
    said.Failed(10, "No.", "Traceback", True),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.kind)
def test_every_event_becomes_json(event):
    out = json.loads(json.dumps(said.to_json(event)))
    assert out["kind"] == event.kind and out["step"] == event.step
    assert out.keys() == {"kind", *vars(event)}


def test_frames_and_arrays_become_their_sizes():
    out = said.to_json(EVENTS[3])
    assert out["prediction"]["cells"] == {"rows": 2}
    assert out["prediction"]["pictures"] == {"uncertainty": [2, 2]}


def test_all_events_are_listed_here_and_have_a_kind_of_their_own():
    # the window has an event of its own, if it was imported in this process
    classes = {c for c in said.Event.__subclasses__() if c.__module__ == said.__name__}
    assert {type(e) for e in EVENTS} == classes
    assert len({c.kind for c in classes}) == len(classes)
