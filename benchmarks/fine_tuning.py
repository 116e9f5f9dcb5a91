"""What every tuning mode learns of real raccoons with a reduced model: AP, files, round trips.

Runs tools/finetune.py as a user would: full tuning from random weights with 3 and 10 shots, then
each mode from the model that learnt 10 shots, with 3 shots, 10 shots and all pictures. Validation
is on the very training pictures, so it says whether a mode can fit them; test pictures are others.
A quarter of an hour on two quiet cores.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import timing
import yaml

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import load_coco
from glipkit.data.few_shot import few_shot

REPOSITORY = Path(__file__).parents[1]
MODEL = REPOSITORY / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
SEED = 3
# Mode -> learning rates (BASE_LR, LANG_LR) that fit a model this small.
RATES = {
    "full": (1e-3, 5e-4),
    "linear_prob": (1e-3, 0.0),
    "language_prompt_v1": (1e-3, 1e-3),
    "language_prompt_v2": (5e-2, 0.0),
    "language_prompt_v3": (1e-3, 1e-3),
    "language_prompt_v4": (5e-3, 0.0),
}
# Shots -> epochs and copies of the runs that start from the base.
RECIPES = {3: (25, 8), 10: (15, 4), 0: (2, 1)}
FROM_RANDOM = {3: "3_50_8", 10: "10_40_4"}  # shots -> recipe; the last one becomes the base


def write_task(data: Path, out: Path) -> Path:
    """A task whose validation pictures are its training pictures, few-shot ones prepared."""
    register: dict[str, Any] = {}
    for name, split in (("train", "train"), ("val", "train"), ("test", "test")):
        folder = data / "raccoon" / split
        register[name] = entry(folder / "_annotations.coco.json", folder)
    pictures = data / "raccoon" / "train"
    whole = load_coco(DatasetSpec("train", pictures / "_annotations.coco.json", pictures))
    categories = [{"id": each.category_id, "name": each.name} for each in whole.categories]
    for shots in filter(None, RECIPES):
        chosen = few_shot(whole, shots=shots, seed=SEED)
        content = {
            "images": [
                {
                    "id": image.image_id,
                    "file_name": image.file_name,
                    "height": image.size[0],
                    "width": image.size[1],
                }
                for image in chosen.images
            ],
            "annotations": list(chosen.annotations),
            "categories": categories,
        }
        file = out / f"shots_{shots}.json"
        file.write_text(json.dumps(content))
        for name in ("train", "val"):
            register[f"{name}_{shots}_{SEED}"] = entry(file, pictures)
    task = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text())
    task["DATASETS"] = {"REGISTER": register, "TRAIN": '("train",)', "TEST": '("val",)'}
    path = out / "raccoon.yaml"
    path.write_text(yaml.safe_dump(task))
    return path


def entry(file: Path, folder: Path) -> dict[str, str]:
    """A dataset of DATASETS.REGISTER."""
    return {"ann_file": str(file.absolute()), "img_dir": str(folder.absolute())}


def fine_tune(
    task: Path, out: Path, mode: str, recipe: str, weight: str, evaluations: int
) -> dict[str, Any]:
    """Run the tool; the one run of its summary."""
    base_rate, text_rate = RATES[mode]
    shots = recipe.split("_")[0]
    subprocess.run(
        [
            *(sys.executable, REPOSITORY / "tools" / "finetune.py", "--config-file", MODEL),
            *("--ft-tasks", task, "--custom_shot_and_epoch_and_general_copy", recipe),
            *("--seeds", str(SEED), "--weight", weight, "--push_both_val_and_test"),
            *("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", mode, "OUTPUT_DIR", out),
            *("SOLVER.BASE_LR", str(base_rate), "SOLVER.LANG_LR", str(text_rate)),
            *("SOLVER.CHECKPOINT_PER_EPOCH", str(evaluations / int(recipe.split("_")[1]))),
        ],
        check=True,
        cwd=REPOSITORY,
    )
    (run,) = json.loads((out / "summary.json").read_text())["runs"]
    run["shots"] = int(shots)
    return run


def figures(run: dict[str, Any], mode: str, start: str) -> dict[str, Any]:
    """What is kept of a run."""
    kind = "model" if mode == "full" else "tuned"
    validated = next(n for n in run["figures"] if n.startswith("best/val"))
    return {
        "mode": mode,
        "start": start,
        "shots": run["shots"],
        "steps": run["steps"],
        "trained_parameters": run["trained_parameters"],
        "bytes": run["saved"][f"{kind}_best.safetensors"],
        "AP_training_pictures": run["best_val"],
        "AP_after_round_trip": run["figures"][validated],
        "AP_test_pictures": run["figures"]["best/test"],
    }


def row(each: dict[str, Any]) -> str:
    """A line of the table."""
    shots = each["shots"] or "all"
    return (
        f"{each['mode']:<20} {each['start']:<7} {shots:>5} {each['steps']:>6} "
        f"{each['trained_parameters']:>11,} {each['bytes'] / 1000:>10,.1f} kB  "
        f"{each['AP_training_pictures']:.4f}  {each['AP_after_round_trip']:.4f}  "
        f"{each['AP_test_pictures']:.4f}"
    )


HEAD = (
    "mode                 start   shots  steps   parameters         file  AP fit  on disk    test"
)


def main() -> int:
    """Run everything, print a table, leave JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("fine_tuning_output"))
    parser.add_argument("--modes", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    task = write_task(args.data, args.out)
    kept = []

    def note(run: dict[str, Any], mode: str, start: str) -> None:
        kept.append(figures(run, mode, start))
        print(HEAD, row(kept[-1]), sep="\n", flush=True)

    for shots, recipe in FROM_RANDOM.items():
        out = args.out / f"random_{shots}"
        note(run := fine_tune(task, out, "full", recipe, "", 4), "full", "random")
        weight = str(out / run["name"] / "model_final.safetensors")
    for shots, (epochs, copies) in RECIPES.items():
        for mode in args.modes:
            out = args.out / f"{mode}_{shots}"
            run = fine_tune(task, out, mode, f"{shots}_{epochs}_{copies}", weight, 2)
            note(run, mode, "base")
    print("\n".join([HEAD, *map(row, kept)]))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"machine": timing.machine(), "runs": kept}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
