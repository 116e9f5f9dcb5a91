"""Train a model: pre-training, or fine-tuning of everything on one task."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glipkit.config.load import expand_task_files, load_tasks
from glipkit.data.build import build_test_sets
from glipkit.engine import launch
from glipkit.evaluation.overview import overview
from glipkit.programs.evaluation import load_tokenizer
from glipkit.programs.trained import judge_trained, weights_to_judge
from glipkit.programs.training import Trained, train_model
from glipkit.runtime.distributed import is_main

EXAMPLE = """python tools/train_net.py --config-file configs/pretrain/glip_Swin_T_O365_GoldG.yaml \\
    --task_config configs/coco/train.yaml --weight MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth \\
    SOLVER.IMS_PER_BATCH 4 OUTPUT_DIR out"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = launch.base_parser(__doc__, EXAMPLE)
    launch.add_training_flags(parser)
    return parser


def run(args: argparse.Namespace) -> Trained:
    """Train, or go on with a run that was interrupted, and judge what came out."""
    overrides = [*args.opts, *launch.output_override(args)]
    files = expand_task_files(args.task_config)
    if len(files) > 1:
        raise ValueError(
            f"train_net.py trains on one task, and {len(files)} were given; tools/finetune.py "
            "trains on several, one after the other"
        )
    ((name, cfg),) = [
        (task.name, task.cfg)
        for task in load_tasks(args.config_file, files, overrides, training=True)
    ]
    folder = Path(cfg.OUTPUT_DIR)
    device = launch.start_run(cfg.OUTPUT_DIR, args.device, cfg.MODEL.DEVICE, cfg.SOLVER.SEED)
    if not args.skip_test:
        build_test_sets(cfg, load_tokenizer(cfg))  # what is missing should show now, not at the end
    trained = train_model(
        cfg,
        folder=folder,
        weight=cfg.MODEL.WEIGHT if args.weight is None else args.weight,
        device=device,
        partial=args.partial_weight,
        allow_changes=args.allow_changes,
        tensorboard=args.use_tensorboard,
    )
    which = weights_to_judge(trained, skip_test=args.skip_test, only_best=False)
    results = judge_trained(cfg, trained, folder=folder, which=which, device=device)
    if is_main():
        if results:
            print(overview(results))
        print(f"{name}: {trained.steps} steps ({trained.reason}), {trained.skipped_steps} skipped")
        for file, size in trained.saved.items():
            print(f"  {folder / file}  {size / 1e6:.2f} MB")
        print(f"curves: python -m glipkit.report {folder}")
    return trained


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = launch.parse(make_parser(), argv)
    with launch.session(args.backend) as outcome:
        run(args)
    return outcome.exit_code


if __name__ == "__main__":
    launch.program(main)
