"""The main job on what any machine has: drawn pictures, deterministic weights, an AP table.

It writes a small COCO dataset and a GLIP-T checkpoint in the published layout, then evaluates one
on the other through `tools/test_grounding_net.py`. The weights are filled by rule, not trained
(no download is needed), so the boxes mean nothing and AP is near 0: what it shows is that every
step works on this machine. Run it with `make demo`.
"""

import argparse
import logging
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "examples"), str(REPOSITORY / "tools")]

import shapes  # noqa: E402
import test_grounding_net  # noqa: E402

from glipkit.config.load import load_config  # noqa: E402
from glipkit.engine.checkpoint import save_weights  # noqa: E402
from glipkit.modeling.build import build_model  # noqa: E402
from glipkit.modeling.fill import fill_model  # noqa: E402
from glipkit.runtime.logs import setup_logging  # noqa: E402

CONFIG = REPOSITORY / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
logger = logging.getLogger("glipkit.demo")


def write_weights(path: Path) -> None:
    """GLIP-T with weights filled by rule (seed 0), in the published layout; 0.9 GB."""
    if path.is_file():
        return
    logger.info("writing GLIP-T weights, filled by rule, to %s", path)
    model = build_model(load_config([CONFIG]))
    fill_model(model, seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path, layout="published")


def write_task(path: Path, annotations: Path) -> None:
    """A task file in GLIP's YAML form that registers the drawn dataset."""
    split = {"img_dir": str(annotations.parent), "ann_file": str(annotations)}
    task = {"DATASETS": {"REGISTER": {"shapes": split}, "TRAIN": '("shapes",)'}}
    task["DATASETS"]["TEST"] = '("shapes",)'
    path.write_text(yaml.safe_dump(task))


def main() -> int:
    """Make the dataset and the weights, evaluate, say where everything lies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_output")
    parser.add_argument("--images", type=int, default=8, help="pictures to draw (default 8)")
    args = parser.parse_args()
    setup_logging()
    out = args.out.resolve()
    annotations = shapes.write_dataset(out / "shapes", num_images=args.images)
    write_weights(out / "glip_tiny_filled.pth")
    write_task(out / "shapes.yaml", annotations)
    return test_grounding_net.main(
        [
            *("--config-file", str(CONFIG), "--task_config", str(out / "shapes.yaml")),
            *("--weight", str(out / "glip_tiny_filled.pth"), "--save-pictures", str(args.images)),
            *("TEST.IMS_PER_BATCH", "2", "TEST.EVAL_TASK", "detection"),
            *("INPUT.MIN_SIZE_TEST", "320", "INPUT.MAX_SIZE_TEST", "512"),
            *("DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(out / "evaluation")),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
