"""Every key that means something here: default, unit and meaning.

Names and defaults are the published ones (GLIP's), so that its YAML files and command lines run
unchanged; keys that GLIP does not know are marked "ours". The published keys without a meaning
here stand in `legacy.py`, the values that are supported in `checks.py`.

The published defaults describe a two-stage detector; a file of `configs/pretrain` turns them into
one of the published GLIP models.
"""

from yacs.config import CfgNode

from glipkit.config.defaults_data import AUGMENT, DATALOADER, DATASETS, INPUT
from glipkit.config.defaults_model import MODEL
from glipkit.config.defaults_run import GLIPKNOW, SOLVER, TEST

_C = CfgNode()
_C.MODEL = MODEL
_C.INPUT = INPUT
_C.AUGMENT = AUGMENT
_C.DATASETS = DATASETS
_C.DATALOADER = DATALOADER
_C.SOLVER = SOLVER
_C.TEST = TEST
_C.GLIPKNOW = GLIPKNOW
_C.OUTPUT_DIR = "OUTPUT"  # folder of everything a run writes; made when missing
_C.TENSORBOARD_EXP = "OUTPUT"  # folder of the TensorBoard curves (optional extra)


def defaults() -> CfgNode:
    """A fresh, writable tree of all keys with their published defaults."""
    return _C.clone()
