"""A report of an evaluation that was run before: `python -m glipkit.evaluation_report FOLDER`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from glipkit.config.load import load_config
from glipkit.data.build import load_labelled
from glipkit.data.datasets.coco import CocoDetection
from glipkit.evaluation.report import NUM_PICTURES, check_figures, write_report
from glipkit.evaluation.results_file import read_results
from glipkit.programs.judged import judged_spec


def judged_dataset(folder: Path) -> CocoDetection:
    """The dataset that an evaluation was about, as its config.yaml and results.json name it.

    Raises:
        FileNotFoundError: the folder holds no evaluation, or the dataset is gone.
        ValueError: the results are not whole or not of classes, or the configuration does not name
            their dataset.
    """
    for name in ("config.yaml", "results.json", "predictions.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no {name} in {folder}; expected the folder of one evaluation, e.g. "
                "OUTPUT_DIR/TASK/DATASET"
            )
    results = read_results(folder)
    check_figures(folder, results.metrics)
    cfg = load_config([folder / "config.yaml"])
    return load_labelled(cfg, judged_spec(cfg, results.content["dataset"]))


def main(argv: Iterable[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m glipkit.evaluation_report",
        description="Writes report.html into the folder of an evaluation: curves, mistakes by "
        "kind, confusions, the best and the worst pictures.",
        epilog="example:\n  python -m glipkit.evaluation_report out/val/coco_2017_val",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", type=Path, help="where tools/test_grounding_net.py left results.json"
    )
    parser.add_argument(
        "--pictures", type=int, default=NUM_PICTURES, metavar="N", help="how many are shown"
    )
    args = parser.parse_args(None if argv is None else list(argv))
    try:
        path = write_report(args.folder, judged_dataset(args.folder), num_pictures=args.pictures)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"written to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
