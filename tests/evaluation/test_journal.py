"""Predictions on disk: exact, whole, and never somebody else's."""

import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from glipkit.evaluation import journal
from glipkit.evaluation.journal import Journal, JournalError, discard_journals, walk_journals
from glipkit.structures.detections import Detections

PINS = {"weights": "abc", "captions": ["cat. dog"], "size": (1, 2), "input": {"min": 8, "max": 9}}


def detections(count: int) -> Detections:
    return Detections(
        torch.rand(count, 4) * 1000, torch.rand(count), torch.arange(count), (480, 640)
    )


def journals(folder: Path, depends_on: dict[str, Any]) -> dict[int, Detections]:
    return dict(walk_journals(folder, depends_on))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = {1: detections(3), 2: detections(0)}
    with Journal(tmp_path, 0, PINS) as journal:
        for image_id, each in written.items():
            journal.add(image_id, each)
    with Journal(tmp_path, 1, PINS) as journal:
        journal.add(7, detections(1))
    found = journals(tmp_path, PINS)
    assert found.keys() == {1, 2, 7}
    for image_id, each in written.items():
        assert torch.equal(found[image_id].boxes, each.boxes)
        assert torch.equal(found[image_id].scores, each.scores)
        assert torch.equal(found[image_id].phrase_ids, each.phrase_ids)
        assert found[image_id].image_size == (480, 640)


def test_lines_are_on_disk_before_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, PINS)
    journal.add(1, detections(2))
    assert journals(tmp_path, PINS).keys() == {1}


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    # A limit on this process's files stands for the disk: the kernel answers in the same way.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(tmp_path, 0, PINS)
    journal.add(1, detections(2))
    room = (tmp_path / "journal-0.jsonl").stat().st_size + 50
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match=r"--resume goes on from it.*journal-0\.jsonl"):
            journal.add(2, detections(9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "journal-0.jsonl").stat().st_size == room  # a torn line, which is ignored
    assert journals(tmp_path, PINS).keys() == {1}
    with Journal(tmp_path, 0, PINS, resume=True) as journal:
        journal.add(2, detections(9))
    assert journals(tmp_path, PINS).keys() == {1, 2}


@pytest.mark.parametrize("cut", range(1, 40, 7))
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_a_torn_line_is_ignored_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, block: int
) -> None:
    monkeypatch.setattr(journal, "_BLOCK", block)  # the file is looked at from its end
    with Journal(tmp_path, 0, PINS) as own:
        own.add(1, detections(2))
        own.add(2, detections(2))
    path = tmp_path / "journal-0.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert journals(tmp_path, PINS).keys() == {1}
    with Journal(tmp_path, 0, PINS, resume=True) as own:
        own.add(3, detections(2))
    assert journals(tmp_path, PINS).keys() == {1, 3}


def test_a_torn_head_starts_again(tmp_path: Path) -> None:
    (tmp_path / "journal-0.jsonl").write_text('{"depends_')
    assert journals(tmp_path, PINS) == {}
    with Journal(tmp_path, 0, PINS, resume=True) as journal:
        journal.add(3, detections(2))
    assert journals(tmp_path, PINS).keys() == {3}


def test_damage_in_the_middle_is_not_ignored(tmp_path: Path) -> None:
    with Journal(tmp_path, 0, PINS) as journal:
        journal.add(1, detections(2))
    path = tmp_path / "journal-0.jsonl"
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(JournalError, match=r"journal-0\.jsonl is damaged"):
        journals(tmp_path, PINS)


def test_every_difference_is_named(tmp_path: Path) -> None:
    Journal(tmp_path, 0, PINS).add(1, detections(1))
    with pytest.raises(JournalError) as caught:
        journals(tmp_path, {**PINS, "weights": "def", "new": 1, "input": {"min": 7, "max": 9}})
    assert 'weights: then "abc", now "def"' in str(caught.value)
    assert "new: then null, now 1" in str(caught.value)
    assert "input.min: then 8, now 7" in str(caught.value)
    assert "captions" not in str(caught.value)
    assert "input.max" not in str(caught.value)
    assert "without --resume" in str(caught.value)


def test_appending_to_another_evaluation_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, 0, PINS).add(1, detections(1))
    with pytest.raises(JournalError, match="weights: then"):
        Journal(tmp_path, 0, {**PINS, "weights": "def"}, resume=True)


def test_starting_again_replaces(tmp_path: Path) -> None:
    Journal(tmp_path, 0, PINS).add(1, detections(1))
    other = {**PINS, "weights": "def"}
    Journal(tmp_path, 0, other).add(2, detections(1))
    assert journals(tmp_path, other).keys() == {2}


def test_discard(tmp_path: Path) -> None:
    Journal(tmp_path, 0, PINS).add(1, detections(1))
    discard_journals(tmp_path)
    assert journals(tmp_path, PINS) == {}
