"""Fetch the pictures of ODinW-13 or ODinW-35 and put them where the task files look for them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glipkit.engine import launch
from glipkit.programs.odinw_download import SOURCE, archives_of, download
from glipkit.programs.odinw_plan import choose_tasks, split_words, suite_files

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXAMPLE = """python tools/download_odinw.py DATASET --suite 13 --tasks Raccoon,Aquarium
The same command again goes on where the last one stopped. Needs a network; nothing else fetches."""


def make_parser() -> argparse.ArgumentParser:
    """The flags of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="the dataset root, later $DATASET")
    parser.add_argument("--suite", choices=("13", "35"), default="13", help="configs/odinw_*")
    parser.add_argument("--tasks", default="", metavar="NAME,NAME", help="these of the suite")
    parser.add_argument("--source", default=SOURCE, metavar="URL", help="where the .zip files are")
    parser.add_argument("--sums", type=Path, metavar="FILE", help="as sha256sum writes it")
    parser.add_argument("--dry-run", action="store_true", help="print what would be fetched")
    return parser


def run(args: argparse.Namespace) -> list[str]:
    """Fetch what is not there yet; returns the files that no archive brought."""
    files = [(file.stem, file) for file in suite_files(args.suite, CONFIGS)]
    archives = archives_of([file for _, file in choose_tasks(files, split_words(args.tasks))])
    if args.dry_run:
        print("\n".join(f"{args.source.rstrip('/')}/{name}.zip" for name in archives))
        return []
    missing = download(archives, args.root, source=args.source, sums=args.sums)
    lines = [f"{len(archives)} archives are in {args.root}", *(f"missing: {m}" for m in missing)]
    print("\n".join(lines))
    return missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code."""
    args = make_parser().parse_args(argv)
    with launch.session() as outcome:
        if run(args):
            outcome.exit_code = launch.BAD_INPUT
    return outcome.exit_code


if __name__ == "__main__":
    launch.program(main)
