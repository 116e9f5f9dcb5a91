"""Start-up that every tool shares: flags, device, ranks, logs."""

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from glipkit.data.workers import lost_worker
from glipkit.runtime import distributed, logs
from glipkit.runtime.allocation import keep_freed_memory
from glipkit.runtime.collector import skip_last_collection
from glipkit.runtime.memory import is_out_of_memory

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes; 130 is what shells report after Ctrl-C
_END_OF_TASKS = "--end-of-task-files"
_TASK_FLAGS = ("--task_config", "--ft-tasks")  # the latter in GLIP's commands for fine-tuning
logger = logging.getLogger(__name__)


def base_parser(description: str, example: str) -> argparse.ArgumentParser:
    """The flags that GLIP's users type for every tool (DESIGN 6).

    Flags may stand anywhere; what is left over are `KEY VALUE` pairs. `--task_config` takes
    several files, comma separated or globbed, by the shell or by us.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="YAML file of the model")
    parser.add_argument(
        *_TASK_FLAGS,
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML files of the tasks: several, comma separated, or a pattern in quotes",
    )
    parser.add_argument(_END_OF_TASKS, action="store_true", help=argparse.SUPPRESS)  # see parse
    parser.add_argument("--weight", help="checkpoint (.pth or .safetensors), before MODEL.WEIGHT")
    parser.add_argument(
        "--partial-weight",
        action="store_true",
        help="load what fits of the checkpoint; what it leaves out is random (SOLVER.SEED)",
    )
    parser.add_argument("--device", help="cuda, cuda:1, cpu; default: a GPU where there is one")
    parser.add_argument(
        "--backend",
        choices=distributed.BACKENDS,
        default="auto",
        help="how processes talk: nccl needs a GPU for each; default: nccl where that is so",
    )
    # torch.distributed.launch passes it; ranks come from the environment.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the files")
    return parser


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that the tools which train share."""
    parser.add_argument("--skip-test", action="store_true", help="do not judge the final weights")
    parser.add_argument("--override_output_dir", metavar="FOLDER", help="before OUTPUT_DIR")
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="go on with a run in OUTPUT_DIR although it was made with other settings",
    )
    parser.add_argument(
        "--use-tensorboard", action="store_true", help="write curves for TensorBoard too"
    )


def output_override(args: argparse.Namespace) -> list[str]:
    """KEY VALUE of `--override_output_dir`."""
    return ["OUTPUT_DIR", args.override_output_dir] if args.override_output_dir else []


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and keep `--task_config` or `--ft-tasks` from swallowing the overrides that follow it.

    In `--task_config a.yaml b.yaml TEST.IMS_PER_BATCH 1` the last two words are an override. The
    first word after the flag, and what has a slash, is a file, if only a missing one.
    """
    words = []
    files: int | None = None  # seen since the flag; None elsewhere
    for word in sys.argv[1:] if argv is None else argv:
        if word.startswith("--"):
            # argparse takes abbreviations: --task, say
            names_tasks = any(flag.startswith(word) for flag in _TASK_FLAGS)
            files = 0 if len(word) > 2 and names_tasks else None
        elif files is not None:
            if files and not (word.endswith((".yaml", ".yml", ",")) or "/" in word):
                words.append(_END_OF_TASKS)
                files = None
            else:
                files += 1
        words.append(word)
    return parser.parse_intermixed_args(words)


def choose_device(flag: str | None, configured: str) -> torch.device:
    """The device to run on.

    Args:
        flag: `--device`, taken at its word.
        configured: MODEL.DEVICE. Published files say "cuda"; where there is none, the CPU serves.

    Raises:
        ValueError: this is no device glipkit runs on, or `--device` asks for a GPU that is not
            there.
    """
    name = flag or configured
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        origin = "--device" if flag else "MODEL.DEVICE"
        raise ValueError(f"{origin} is {name!r}; glipkit runs on cpu, cuda, or one GPU as cuda:1")
    wanted = torch.device(name)
    if wanted.type != "cuda":
        return wanted
    if torch.cuda.is_available():
        index = distributed.local_rank() if wanted.index is None else wanted.index
        if index < torch.cuda.device_count():
            return torch.device("cuda", index)
        raise ValueError(
            f"device {wanted}: this machine has {torch.cuda.device_count()} GPUs, and GPU {index} "
            "was asked for; start fewer processes or name another device"
        )
    if flag is not None:
        raise ValueError(f"--device {flag}: this machine has no GPU; leave the flag out or say cpu")
    logger.info("no GPU here: running on the CPU with %d threads", torch.get_num_threads())
    return torch.device("cpu")


@dataclass(slots=True)
class Outcome:
    """How a program ended."""

    exit_code: int = 0


@contextmanager
def session(backend: str = "auto") -> Iterator[Outcome]:
    """Ranks, logs and readable errors for the length of a program.

    What a user can mend (a ValueError, a file that is missing or not ours to write, a full disk,
    too little memory, here or in a worker) becomes one line and an exit code, without a traceback,
    as does Ctrl-C; anything else is a defect of ours and flies. GLIPKIT_DEBUG=1 lets the first kind
    fly as well.

    Args:
        backend: `--backend`; see `distributed.init`.
    """
    outcome = Outcome()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A class may be called what this terminal cannot spell.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _join(backend)
        logs.setup_logging()
        keep_freed_memory()
        yield outcome
    except KeyboardInterrupt:
        outcome.exit_code = INTERRUPTED
    except Exception as error:
        if is_defect(error):
            raise
        outcome.exit_code = _report(error)
    finally:
        distributed.shutdown()
        logs.close_logging()


def is_defect(error: Exception) -> bool:
    """Whether this is ours to mend: neither bad input, nor a disk, nor too little memory."""
    if isinstance(error, ValueError | OSError) or is_out_of_memory(error):
        return False
    return not lost_worker(error)


def program(main: Callable[[], int]) -> NoReturn:
    """Run a tool as a program of its own; ends with the exit code of its `main`."""
    skip_last_collection()
    sys.exit(main())


def _join(backend: str) -> None:
    try:
        distributed.init(backend)
    except ValueError as error:  # there is no session to leave yet
        raise SystemExit(_report(error)) from error


def _report(error: Exception) -> int:
    """Tell what went wrong in one line; or let it fly."""
    if os.environ.get("GLIPKIT_DEBUG") == "1":
        raise error
    told = lost_worker(error) or str(error)
    if isinstance(error, RuntimeError) and is_out_of_memory(error):  # others say what helps
        told = (
            f"{' '.join(told.split())} To need less, lower SOLVER.IMS_PER_BATCH or "
            "TEST.IMS_PER_BATCH, raise SOLVER.ACCUMULATION (the same gradients in smaller pieces), "
            "or set MODEL.BACKBONE.USE_CHECKPOINT and MODEL.DYHEAD.USE_CHECKPOINT to True"
        )
    sys.stderr.write(f"error: {told or 'not enough memory'}\n")  # Python's own says nothing
    return BAD_INPUT


def start_run(output_dir: str, flag: str | None, configured: str, seed: int) -> torch.device:
    """Log into the output folder from here on, seed, and choose this rank's device.

    Args:
        output_dir: OUTPUT_DIR, made when missing.
        flag: `--device`.
        configured: MODEL.DEVICE.
        seed: SOLVER.SEED, the same on all ranks, so that random weights are.

    Raises:
        ValueError: results cannot be written to `output_dir`; or see `choose_device`.
    """
    try:
        logs.setup_logging(Path(output_dir))
    except OSError as error:
        raise ValueError(
            f"cannot write to OUTPUT_DIR {output_dir}: {error.strerror} ({error.filename}); "
            "choose a folder of your own: OUTPUT_DIR FOLDER"
        ) from error
    # On by default, TF32 would give convolutions 10 bits where TEST.PRECISION says float32.
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(seed)
    return choose_device(flag, configured)
