"""Fine-tune on one task or many: everything, the head's projections, or a prompt."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glipkit.config.load import expand_task_files, load_tasks
from glipkit.engine import launch
from glipkit.programs.fine_tuning import Options, fine_tune
from glipkit.programs.fine_tuning_plan import Recipe, parse_seeds, plan_runs
from glipkit.programs.summary import RunResult, table
from glipkit.runtime.distributed import is_main

EXAMPLE = """python tools/finetune.py --config-file configs/pretrain/glip_Swin_T_O365_GoldG.yaml \\
    --ft-tasks configs/odinw_13/Raccoon_Raccoon.v2-raw.coco.yaml --skip-test \\
    --weight MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth --seeds 3,30,300 \\
    --custom_shot_and_epoch_and_general_copy 3_200_4 --evaluate_only_best_on_test \\
    SOLVER.TUNING_HIGHLEVEL_OVERRIDE language_prompt_v2 TEST.DURING_TRAINING True OUTPUT_DIR out"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = launch.base_parser(__doc__, EXAMPLE)
    launch.add_training_flags(parser)
    parser.add_argument(
        "--custom_shot_and_epoch_and_general_copy",
        default="",
        metavar="S_E_C",
        help="shots per class (0: all data), epochs, copies of the data; several: 3_200_4,0_200_1",
    )
    parser.add_argument(
        "--seeds",
        "--shuffle_seeds",
        default="",
        metavar="N,N",
        help="a run for each: which pictures few-shot draws, and all else that is random",
    )
    parser.add_argument(
        "--evaluate_only_best_on_test", action="store_true", help="judge the best weights only"
    )
    parser.add_argument(
        "--push_both_val_and_test",
        action="store_true",
        help="judge on the validation data too, not on the test data alone",
    )
    return parser


def run(args: argparse.Namespace) -> list[RunResult]:
    """Make every run that the command asks for."""
    overrides = [*args.opts, *launch.output_override(args)]
    tasks = load_tasks(
        args.config_file, expand_task_files(args.task_config), overrides, training=True
    )
    first = tasks[0].cfg
    folder = Path(first.OUTPUT_DIR)
    device = launch.start_run(first.OUTPUT_DIR, args.device, first.MODEL.DEVICE, first.SOLVER.SEED)
    files = expand_task_files(args.task_config) or [None]
    recipes = args.custom_shot_and_epoch_and_general_copy.split(",")
    runs = plan_runs(
        [(task.name, file) for task, file in zip(tasks, files)],
        [Recipe.parse(text) for text in recipes if text],
        parse_seeds(args.seeds),
    )
    options = Options(
        config_file=args.config_file,
        overrides=tuple(overrides),
        output_dir=folder,
        weight=args.weight,
        partial=args.partial_weight,
        skip_test=args.skip_test,
        only_best=args.evaluate_only_best_on_test,
        push_both=args.push_both_val_and_test,
        allow_changes=args.allow_changes,
        tensorboard=args.use_tensorboard,
    )
    results = fine_tune(runs, options, device=device)
    if is_main():
        print(f"{table(results)}\nwritten to {folder}, curves: python -m glipkit.report {folder}")
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = launch.parse(make_parser(), argv)
    with launch.session(args.backend) as outcome:
        if any(each.failed for each in run(args)):
            outcome.exit_code = launch.BAD_INPUT
    return outcome.exit_code


if __name__ == "__main__":
    launch.program(main)
