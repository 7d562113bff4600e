from napari_mtssl.engine.events import Failed, Paused
from napari_mtssl.engine.runlog import RunLog, drop_rows_after, read_events


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


def test_a_line_that_a_kill_left_half_written_spoils_neither_the_log_nor_the_next_line(tmp_path):
    assert list(read_events(tmp_path)) == []  # a run whose log is gone
    for step in (1, 2):
        log = RunLog(tmp_path)
        log.write(Paused(step))
        log.close()
        with (tmp_path / "events.jsonl").open("a") as file:
            file.write('{"seconds": 1.0, "ki')
    assert [event["step"] for event in read_events(tmp_path)] == [1, 2]
