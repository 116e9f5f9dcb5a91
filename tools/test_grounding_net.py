"""Evaluate a GLIP checkpoint on one task or on many."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from glipkit.config.load import expand_task_files, load_tasks, to_yaml
from glipkit.data.build import build_test_sets
from glipkit.engine import launch
from glipkit.engine.checkpoint import load_weights, weights_hash
from glipkit.engine.weights import find_weights
from glipkit.evaluation.build import build_evaluator, describe_protocol, images_per_rank
from glipkit.evaluation.overview import overview, write_summary
from glipkit.evaluation.pictures import save_pictures
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import evaluate
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_detector, build_model
from glipkit.modeling.glip import GLIP
from glipkit.runtime.distributed import is_main
from glipkit.runtime.files import write_atomically

EXAMPLE = """python tools/test_grounding_net.py --task_config configs/coco/val.yaml \\
    --config-file configs/pretrain/glip_Swin_T_O365_GoldG.yaml \\
    --weight MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth TEST.IMS_PER_BATCH 4 OUTPUT_DIR out"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = launch.base_parser(__doc__, EXAMPLE)
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable picture")
    parser.add_argument("--save-pictures", type=int, default=0, metavar="N", help="annotate N")
    return parser


def load_tokenizer(cfg: CfgNode) -> Tokenizer:
    """What turns the words of a task into tokens."""
    return Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)


def load_model(cfg: CfgNode, args: argparse.Namespace) -> GLIP:
    """The model that a configuration describes, with the weights of a file, for evaluation."""
    path = find_weights(args.weight or cfg.MODEL.WEIGHT)  # before anything large is made
    model = build_model(cfg)
    load_weights(model, path, strict=not args.partial_weight)
    return model.eval()


def run(args: argparse.Namespace) -> dict[str, Results]:
    """Evaluate every task with one model; results by task/dataset."""
    tasks = load_tasks(args.config_file, expand_task_files(args.task_config), args.opts)
    first, results = tasks[0].cfg, {}
    device = launch.start_run(first.OUTPUT_DIR, args.device, first.MODEL.DEVICE, first.SOLVER.SEED)
    jobs = [  # before the model: what is missing shows at once
        (task, test_set)
        for task in tasks
        for test_set in build_test_sets(task.cfg, load_tokenizer(task.cfg))
    ]
    model = load_model(first, args).to(device)
    digest = weights_hash(model)
    for task, test_set in jobs:
        folder = Path(task.cfg.OUTPUT_DIR) / task.name / test_set.name
        results[f"{task.name}/{test_set.name}"] = each = evaluate(
            build_detector(task.cfg, model),
            test_set,
            build_evaluator(test_set),
            output_dir=folder,
            depends_on=describe_protocol(task.cfg, weights=digest),
            settings=task.cfg,
            batch_size=images_per_rank(task.cfg),
            num_workers=task.cfg.DATALOADER.NUM_WORKERS,
            device=device,
            resume=args.resume,
            strict=args.strict or task.cfg.TEST.STRICT,
        )
        if is_main():
            write_atomically(folder / "config.yaml", to_yaml(task.cfg))
            save_pictures(test_set, folder, count=args.save_pictures)
            print(f"{each.report()}\nwritten to {folder}")
    if is_main() and len(results) > 1:
        write_summary(Path(first.OUTPUT_DIR), results)
        print(overview(results))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = launch.parse(make_parser(), argv)
    with launch.session(args.backend) as outcome:
        run(args)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
