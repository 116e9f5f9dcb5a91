"""Every published key has a place, and every key of ours says what it means."""

import ast
import json
import re
from pathlib import Path

import pytest

import glipkit.config
from glipkit.config import defaults
from glipkit.config.checks import SUPPORTED, flatten
from glipkit.config.legacy import ALWAYS, LEGACY

SOURCES = sorted(Path(glipkit.config.__file__).parent.glob("defaults*.py"))
OURS = {
    "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM",
    "MODEL.DYHEAD.FUSE_CONFIG.NUM_HEADS",
    "MODEL.LANGUAGE_BACKBONE.NUM_LAYERS",
    "MODEL.LANGUAGE_BACKBONE.NUM_HEADS",
    "MODEL.LANGUAGE_BACKBONE.MLP_DIM",
    "TEST.STRICT",
    "TEST.PRECISION",
    "TEST.CHUNK_BATCH",
    "TEST.CUDA_GRAPHS",
    "TEST.COMPILE",
    "TEST.SOFT_NMS_SIGMA",
    "SOLVER.ACCUMULATION",
    "SOLVER.PARALLEL",
    "SOLVER.AMP_DTYPE",
    "DATALOADER.IN_FILE_ORDER",
    "SOLVER.COSINE_START",
    "SOLVER.TEXT_LAYER_LR_FACTOR",
    "SOLVER.MAX_SKIPPED_STEPS",
    "SOLVER.LOG_PERIOD",
    "DATASETS.FLIP_SAFE",
}

# Keys that wait for what will read them; whoever builds it strikes them off.
WAITING_FOR_SUITES = ("GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN",)


def as_json(value: object) -> object:
    """Tuples become lists, as in the golden files."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def published(golden: Path) -> dict[str, object]:
    return json.loads((golden / "config_keys.json").read_text())["defaults"]


def test_every_published_key_stands_in_one_place(published: dict[str, object]) -> None:
    ours = set(flatten(defaults()))
    assert ours & set(LEGACY) == set()
    assert set(published) == (ours - OURS) | set(LEGACY)
    assert ours >= OURS


def test_defaults_are_the_published_ones(published: dict[str, object]) -> None:
    values = flatten(defaults()) | LEGACY
    different = {key for key, value in published.items() if as_json(values[key]) != value}
    assert different == set()


def test_defaults_are_fresh_each_time() -> None:
    defaults().TEST.IMS_PER_BATCH = 77
    assert defaults().TEST.IMS_PER_BATCH == 16


def test_every_key_is_read_or_cannot_be_changed_or_waits() -> None:
    """A key that nobody reads would let a user believe that it does something."""
    root = Path(__file__).parents[2]
    folders = [root / "tools", root / "glipkit" / "programs"]
    readers = [*(root / "glipkit").rglob("build.py"), *(f for d in folders for f in d.glob("*.py"))]
    text = "\n".join(path.read_text() for path in readers)
    read = set(re.findall(r"\.([A-Z][A-Z0-9_]+)\b", text))
    fixed = {key for key, known in SUPPORTED.items() if len(known) == 1}
    idle = {
        key
        for key in set(flatten(defaults())) - fixed - {"MODEL.META_ARCHITECTURE"}
        if key.rsplit(".", 1)[-1] not in read
    }
    assert {key for key in idle if not key.startswith(WAITING_FOR_SUITES)} == set()


def test_tables_name_existing_keys() -> None:
    assert set(SUPPORTED) <= set(flatten(defaults()))
    assert set(ALWAYS) <= set(LEGACY)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_key_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assigned = [
        node.lineno
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and not re.match(r"_C\.[A-Z]+ = [A-Z]+$", lines[node.lineno - 1])  # a part from next door
    ]
    silent = [
        lines[number - 1] for number in assigned if not re.search(r"  # \S", lines[number - 1])
    ]
    assert assigned
    assert silent == []
