"""Run ODinW-13 or ODinW-35: zero-shot or fine-tuned, task by task, to a table and a submission."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glipkit.config.load import expand_task_files, load_tasks
from glipkit.engine import launch
from glipkit.programs.fine_tuning_plan import Recipe, parse_seeds
from glipkit.programs.odinw import Asked, plan_lines, prepare, run_jobs
from glipkit.programs.odinw_plan import (
    MODES,
    SEEDS,
    choose_modes,
    choose_recipes,
    choose_tasks,
    plan_jobs,
    published_overrides,
    split_words,
    suite_files,
)
from glipkit.programs.odinw_score import score
from glipkit.programs.odinw_table import Outcome, make_columns, text_table
from glipkit.runtime.distributed import is_main

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXAMPLE = """python tools/run_odinw.py --suite 13 --mode full --shots 1,3,5,10 --seeds 3,30,300 \\
    --config-file configs/pretrain/glip_Swin_T_O365_GoldG.yaml \\
    --weight MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth OUTPUT_DIR out
The same command again goes on where the last one stopped. Several at once share the work:
start one for each GPU, with --device cuda:0, --device cuda:1 ..."""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = launch.base_parser(__doc__, EXAMPLE)
    parser.add_argument("--suite", choices=("13", "35"), default="13", help="configs/odinw_*")
    known = ", ".join(MODES)
    parser.add_argument("--mode", default=MODES[0], help=f"one, or several with commas: {known}")
    parser.add_argument("--shots", default="0", metavar="N,N", help="0: all data, in one run")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), metavar="N,N")
    parser.add_argument("--recipe", default="", metavar="S_E_C", help="shots, epochs, copies")
    parser.add_argument("--tasks", default="", metavar="NAME,NAME", help="these of the suite")
    parser.add_argument("--split", default="", help="zero-shot: judge on this one, not on test")
    parser.add_argument("--keep-going", action="store_true", help="leave out what cannot be run")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and end")
    parser.add_argument("--score", metavar="FILE", help="judge a submission, and run nothing")
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable picture")
    return parser


def run(args: argparse.Namespace) -> list[Outcome]:
    """Do what is not done yet of everything the command asks for."""
    files = expand_task_files(args.task_config) or suite_files(args.suite, CONFIGS)
    files = [f for _, f in choose_tasks([(f.stem, f) for f in files], split_words(args.tasks))]
    modes = choose_modes(args.mode, split=args.split)
    loaded = load_tasks(args.config_file, files, [*published_overrides(modes[0]), *args.opts])
    tasks = [(task.name, file) for task, file in zip(loaded, files)]
    custom = [Recipe.parse(word, flag="--recipe") for word in split_words(args.recipe)]
    recipes = choose_recipes(parse_seeds(args.shots, flag="--shots"), custom)
    jobs = plan_jobs(modes, tasks, recipes, parse_seeds(args.seeds))
    first = loaded[0].cfg
    asked = Asked(
        config_file=args.config_file,
        overrides=(*args.opts, *(("TEST.STRICT", "True") if args.strict else ())),
        folder=Path(first.OUTPUT_DIR),
        weight=args.weight or first.MODEL.WEIGHT,
        split=args.split,
        partial=args.partial_weight,
        keep_going=args.keep_going or args.dry_run,
    )
    if args.score:
        outcomes = score(Path(args.score), tasks, asked)
        print(text_table(make_columns(outcomes)))
        return outcomes
    if args.dry_run:
        ready, failed = prepare(jobs, asked)
        print("\n".join(plan_lines(ready, failed)))
        return failed
    device = launch.start_run(first.OUTPUT_DIR, args.device, first.MODEL.DEVICE, first.SOLVER.SEED)
    ready, failed = prepare(jobs, asked)
    outcomes = run_jobs(ready, failed, asked, device=device)
    if is_main():
        print(f"{text_table(make_columns(outcomes))}\nwritten to {asked.folder}")
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = launch.parse(make_parser(), argv)
    with launch.session(args.backend) as outcome:
        if any(each.error for each in run(args)):
            outcome.exit_code = launch.BAD_INPUT
    return outcome.exit_code


if __name__ == "__main__":
    launch.program(main)
