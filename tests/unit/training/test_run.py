import json
import os
import socket

import pytest
import yaml

from neurofm.schema.errors import ConfigError
from neurofm.training.loggers import CsvLogger, read_metrics, wandb_logged_in, wandb_logger
from neurofm.training.run import RunFolder, environment, git_state


def finished(path):
    run = RunFolder(path)
    run.write_config({"a": {"b": [1, 2]}})
    run.finish({"val/loss": 0.5, "nothing": float("nan")})
    return run


def test_config_and_provenance(tmp_path):
    run = RunFolder(tmp_path / "runs" / "one")
    run.write_config({"model": {"dim": 8}, "name": "one"})
    record = run.write_provenance(config={"model": {"dim": 8}}, data={"split_hash": "abc"}, seed=4)
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"model": {"dim": 8}, "name": "one"}
    assert json.loads((run.path / "provenance.json").read_text()) == record
    assert record["seed"] == 4
    assert record["data"] == {"split_hash": "abc"}
    assert {"python", "neurofm", "torch"} <= set(record["versions"])
    text = json.dumps(record)
    assert socket.gethostname() not in text
    assert str(tmp_path) not in text
    assert os.path.expanduser("~") not in text


def test_a_full_folder_is_refused_then_replaced_on_request(tmp_path):
    run = finished(tmp_path / "one")
    assert json.loads((run.path / "finished.json").read_text()) == {"val/loss": 0.5, "nothing": None}
    with pytest.raises(ConfigError, match=r"finished run; choose another name, resume=true .* overwrite=true"):
        RunFolder(run.path)
    assert (run.path / "config.yaml").exists()
    fresh = RunFolder(run.path, overwrite=True)
    assert not any(fresh.path.iterdir())
    fresh.write_config({})
    with pytest.raises(ConfigError, match="an unfinished run"):
        RunFolder(run.path)
    assert not RunFolder(run.path, resume=True).resumed  # there is no checkpoint to go on from
    with pytest.raises(ConfigError, match="contradict"):
        RunFolder(run.path, resume=True, overwrite=True)


def test_other_peoples_files_are_never_removed(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    for flags in ({}, {"overwrite": True}):
        with pytest.raises(ConfigError, match=r"thesis\.tex"):
            RunFolder(tmp_path, **flags)
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run")


def test_environment_and_git():
    assert environment()["versions"]["torch"]
    assert git_state(__import__("pathlib").Path("/")) is None


def test_csv_grows_columns_and_forgets_lost_steps(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLogger(path)
    for step in range(4):
        log.log_metrics({"train/loss": 1.0 / (step + 1), "epoch": 0}, step)
    log.log_metrics({"val/loss": 0.3}, 3)
    log.finalize("")
    assert read_metrics(path)[-1] == {"step": 4, "train/loss": 0.25, "val/loss": 0.3}
    again = CsvLogger(path, resume_at=2)
    again.log_metrics({"train/loss": 9.0}, 2)
    again.finalize("")
    rows = read_metrics(path)
    assert [r["step"] for r in rows] == [1, 2, 3]
    assert rows[-1]["train/loss"] == 9.0


def test_wandb_never_asks(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert not wandb_logged_in()
    with pytest.raises(ConfigError, match="wandb login"):
        wandb_logger(tmp_path, mode="online")
    with pytest.raises(ConfigError, match="did you mean 'offline'"):
        wandb_logger(tmp_path, mode="ofline")
    assert wandb_logger(tmp_path, mode="off") is None
    logger = wandb_logger(tmp_path, mode="auto")
    assert logger._offline
    # a resumed run is the same run
    assert wandb_logger(tmp_path, mode="auto")._id == logger._id == (tmp_path / "wandb_id.txt").read_text()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_logged_in()


def test_a_continued_run_keeps_what_it_began_with(tmp_path):
    run = RunFolder(tmp_path / "one")
    run.write_provenance(config={"a": 1}, data={"split_hash": "abc"}, n_ranks=2)
    run.checkpoint_dir.mkdir()
    run.last_checkpoint.write_bytes(b"")
    again = RunFolder(tmp_path / "one", resume=True)
    record = again.write_provenance(config={"a": 2}, data={"split_hash": "abc"}, n_ranks=4)
    assert (record["n_ranks"], record["data"]) == (2, {"split_hash": "abc"})
    (later,) = record["continued"]
    assert later["n_ranks"] == 4
    assert set(later) == {"n_ranks", "config_hash"}


def test_only_the_first_rank_makes_and_claims(tmp_path):
    RunFolder(tmp_path / "one", owner=False)
    assert not (tmp_path / "one").exists()
    run = finished(tmp_path / "two")
    RunFolder(run.path, owner=False, overwrite=True)
    assert (run.path / "finished.json").exists()
