"""A configuration that tells classes what they are, loaded where words are given by the caller."""

from pathlib import Path

import pytest
from tiny_run import write_run

from glipkit.inference.build import load


def test_keys_of_evaluations_are_not_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(write_run(tmp_path / "plain"), device="cpu")
    assert "GLIPKNOW" not in caplog.text
    load(write_run(tmp_path / "told", "GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True"), device="cpu")
    assert "told/config.yaml tells classes what they are (GLIPKNOW.*)" in caplog.text
