from napari_mtssl.engine.events import Failed
from napari_mtssl.engine.runlog import RunLog, drop_rows_after


def test_rows_after_a_step_and_broken_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds,name,value\n1,0.1,loss/a,1.0\n2,0.2,loss/a,0.9\n3,0.3,loss/a,0.8\n3,0.")
    drop_rows_after(path, 2)
    assert path.read_text().split() == ["step,seconds,name,value", "1,0.1,loss/a,1.0", "2,0.2,loss/a,0.9"]


def test_the_log_of_a_failure_never_hides_the_failure(tmp_path, caplog):
    log = RunLog(tmp_path / "gone")
    log.write_end(Failed(10, "No.", "Traceback"))
    log.close()
    assert "could not be logged" in caplog.text
