"""Evaluate a GLIP checkpoint on one task or on many."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glipkit.config.load import expand_task_files, load_tasks
from glipkit.data.build import build_test_sets
from glipkit.engine import launch
from glipkit.engine.checkpoint import weights_hash
from glipkit.evaluation.overview import overview, write_summary
from glipkit.evaluation.pictures import save_pictures
from glipkit.evaluation.report import report_on
from glipkit.evaluation.results import Results
from glipkit.programs.evaluation import (
    check_all_judged,
    judge_if_readable,
    load_model,
    load_tokenizer,
    offset_override,
    to_look_at,
    warn_of_other_captions,
)
from glipkit.runtime.distributed import is_main

EXAMPLE = """python tools/test_grounding_net.py --task_config configs/coco/val.yaml \\
    --config-file configs/pretrain/glip_Swin_T_O365_GoldG.yaml \\
    --weight MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth TEST.IMS_PER_BATCH 4 OUTPUT_DIR out"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = launch.base_parser(__doc__, EXAMPLE)
    parser.add_argument("--tuned", metavar="FILE", help="what fine-tuning saved on top of --weight")
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable picture")
    parser.add_argument("--prompts", metavar="FILE", help="compare several wordings of the classes")
    parser.add_argument("--save-pictures", type=int, default=0, metavar="N", help="annotate N")
    parser.add_argument(
        "--show-from", type=float, default=0.3, metavar="SCORE", help="boxes on those (default 0.3)"
    )
    parser.add_argument("--report", action="store_true", help="leave report.html, to be looked at")
    return parser


def run(args: argparse.Namespace) -> dict[str, Results]:
    """Evaluate every task with one model; results by task/dataset."""
    if not 0 <= args.show_from <= 1:
        raise ValueError(f"--show-from is a score from 0 to 1, got {args.show_from}")
    overrides = [*args.opts, *offset_override(args.tuned)]
    tasks = load_tasks(args.config_file, expand_task_files(args.task_config), overrides)
    first, results = tasks[0].cfg, {}
    device = launch.start_run(first.OUTPUT_DIR, args.device, first.MODEL.DEVICE, first.SOLVER.SEED)
    jobs = [  # before the model: what is missing shows at once
        (task, test_set)
        for task in tasks
        for test_set in build_test_sets(task.cfg, load_tokenizer(task.cfg), wordings=args.prompts)
    ]
    warn_of_other_captions(args.tuned, [test_set for _, test_set in jobs])
    weight = args.weight or first.MODEL.WEIGHT
    model = load_model(first, weight=weight, tuned=args.tuned, partial=args.partial_weight)
    model, digest = model.to(device), weights_hash(model)
    for task, test_set in jobs:
        folder = Path(task.cfg.OUTPUT_DIR) / task.name / test_set.name
        results[f"{task.name}/{test_set.name}"] = each = judge_if_readable(
            *(task.cfg, model, test_set),
            folder=folder,
            digest=digest,
            device=device,
            resume=args.resume,
            strict=args.strict,
        )
        if is_main() and each is not None:
            shown = to_look_at(test_set, folder)
            save_pictures(*shown, count=args.save_pictures, score_threshold=args.show_from)
            print(f"{each.report()}\nwritten to {folder}")
            if args.report:
                report_on(*shown)
    judged = {name: each for name, each in results.items() if each is not None}
    if is_main() and len(judged) > 1:
        write_summary(Path(first.OUTPUT_DIR), judged)
        print(overview(judged))
    check_all_judged(results)
    return judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = launch.parse(make_parser(), argv)
    with launch.session(args.backend) as outcome:
        run(args)
    return outcome.exit_code


if __name__ == "__main__":
    launch.program(main)
