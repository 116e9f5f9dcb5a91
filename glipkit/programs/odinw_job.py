"""One ODinW job and what is on the disk of it: what it depends on, how far it is, its result."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from yacs.config import CfgNode

from glipkit.data.annotation_digest import annotation_digest
from glipkit.data.build import find_test_sets
from glipkit.data.catalog import DatasetSpec
from glipkit.data.training.build import find_train_set
from glipkit.engine.run_folder import RUN, SAME_RUN
from glipkit.programs.odinw_plan import ZERO_SHOT, Job
from glipkit.runtime.file_digest import file_digest
from glipkit.runtime.files import write_atomically
from glipkit.runtime.settings import differences, flatten_settings

logger = logging.getLogger(__name__)

ASKED, RESULT = "asked.json", "odinw.json"
State = Literal["done", "begun", "new"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A job whose settings and data were found to be usable."""

    job: Job
    cfg: CfgNode  # to train with, or to judge with
    judged: CfgNode  # to judge with
    folder: Path  # of this job alone
    asked: Mapping[str, Any]  # what the result depends on

    def state(self) -> State:
        """How far the job is, by what is on the disk."""
        if self.result() is not None:
            return "done"
        return "begun" if self._was_asked() else "new"

    def result(self) -> dict[str, Any] | None:
        """What the finished job found; None if it is not finished, or not for these settings.

        Pictures that could not be read may have been mended: such a job is not finished.
        """
        found = _read(self.folder / RESULT)
        if found is None or not isinstance(found.get("asked"), dict):
            return None
        if not isinstance(found.get("metrics"), dict) or differences(found["asked"], self.asked):
            return None
        if found.get("unreadable"):
            return None
        kept = found.get("predictions") or {}
        file = self.folder / str(kept.get("file"))
        if not file.is_file() or file_digest(file) != kept.get("sha256"):
            logger.warning("%s is not what was written there: judged again", file)
            return None
        return found

    def begin(self) -> State:
        """Make the folder this job's: what other settings left is put aside."""
        state = self.state()
        if state == "new":
            self._put_aside()
            write_atomically(self.folder / ASKED, json.dumps(self.asked, indent=2) + "\n")
        return state

    def finish(self, judged_in: Path, more: Mapping[str, Any]) -> dict[str, Any]:
        """Write the result down; from here on the job is done.

        Args:
            judged_in: where results.json and predictions.json are.
            more: what else there is to say.

        Returns:
            What was written.
        """
        results = json.loads((judged_in / "results.json").read_text())
        file = judged_in / "predictions.json"
        job = {**asdict(self.job), "task_file": str(self.job.task_file)}
        content = {
            "job": job,
            "dataset": results["dataset"],
            "metrics": results["metrics"],
            "num_images": results["num_images"],
            "num_predictions": results["num_predictions"],
            "unreadable": len(results["failures"]),
            "predictions": {
                "file": str(file.relative_to(self.folder)),
                "sha256": file_digest(file),
            },
            **more,
            "asked": self.asked,
        }
        write_atomically(self.folder / RESULT, json.dumps(content, indent=2) + "\n")
        return content

    def _was_asked(self) -> bool:
        then = _read(self.folder / ASKED)
        return then is not None and not differences(then, self.asked)

    def _put_aside(self) -> None:
        """Another job's training is kept under another name; its figures are written over."""
        if not (self.folder / RUN).exists():
            (self.folder / RESULT).unlink(missing_ok=True)
            return
        number = 1
        while (other := self.folder.with_name(f"{self.folder.name}.replaced_{number}")).exists():
            number += 1
        then = _read(self.folder / ASKED)
        why = "nobody knows with which settings"
        if then is not None:
            why = "; ".join(f"{k}: {v}" for k, v in differences(then, self.asked).items())
        self.folder.rename(other)
        logger.warning("%s was made with other settings (%s); it is now %s", self.job.name, why,
                       other)  # fmt: skip


def make_ready(
    job: Job, cfg: CfgNode, judged: CfgNode, folder: Path, *, weights: Path, partial: bool = False
) -> Ready:
    """Look whether a job's data are there, and note what its result will depend on.

    Args:
        job: which.
        cfg: its configuration.
        judged: its configuration for judging.
        folder: OUTPUT_DIR.
        weights: the file that it starts from.
        partial: only what fits of it is used.

    Raises:
        FileNotFoundError: annotations or pictures are missing.
        ValueError: DATASETS.REGISTER is not usable.
    """
    specs = _datasets(job, cfg, judged)
    for spec in specs.values():
        spec.check_files()
    settings = {
        key: value
        for key, value in flatten_settings(judged if job.mode == ZERO_SHOT else cfg).items()
        if key not in SAME_RUN and _matters(job, key)
    }
    asked = {
        "settings": settings,
        "judged on": list(judged.DATASETS.TEST),
        "weights": file_digest(weights),
        "partial": partial,
        "annotations": {name: annotation_digest(spec) for name, spec in specs.items()},
    }
    asked = json.loads(json.dumps(asked))  # as it will be read back
    return Ready(job, cfg, judged, folder / job.name, asked)


def _datasets(job: Job, cfg: CfgNode, judged: CfgNode) -> dict[str, DatasetSpec]:
    """The datasets that a job reads, by their names."""
    found = dict(zip(judged.DATASETS.TEST, find_test_sets(judged)))
    if job.recipe is not None:
        found |= zip(cfg.DATASETS.TEST, find_test_sets(cfg))
        found |= [find_train_set(cfg, name, quiet=True) for name in cfg.DATASETS.TRAIN]
    return found


def _matters(job: Job, key: str) -> bool:
    """Whether a result depends on a setting."""
    return job.mode != ZERO_SHOT or not key.startswith("SOLVER.")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        logger.warning("%s is damaged; what it speaks of is done again", path)
        return None
    return content if isinstance(content, dict) else None
