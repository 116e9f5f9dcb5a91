"""A folder as a run leaves it, with a model of a few hundred thousand parameters."""

from pathlib import Path

from yacs.config import CfgNode

from glipkit.config.load import load_config, to_yaml
from glipkit.engine.checkpoint import save_weights
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
TINY = (
    *("MODEL.SWINT.EMBED_DIM", "16", "MODEL.SWINT.OUT_CHANNELS", "(16, 32, 64, 128)"),
    *("MODEL.SWINT.DEPTHS", "(1, 1, 1, 1)", "MODEL.SWINT.NUM_HEADS", "(1, 2, 2, 4)"),
    *("MODEL.BACKBONE.OUT_CHANNELS", "32", "MODEL.DYHEAD.CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_CONVS", "1", "MODEL.LANGUAGE_BACKBONE.LANG_DIM", "32"),
    *("MODEL.LANGUAGE_BACKBONE.NUM_LAYERS", "1", "MODEL.LANGUAGE_BACKBONE.NUM_HEADS", "4"),
    *("MODEL.LANGUAGE_BACKBONE.MLP_DIM", "64", "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM", "64"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "DATALOADER.NUM_WORKERS", "0"),
)


def tiny_config(*overrides: str) -> CfgNode:
    return load_config([CONFIG], [*TINY, *overrides])


def write_run(
    folder: Path, *overrides: str, weights: str = "model_best.safetensors", seed: int = 0
) -> Path:
    """The folder, with config.yaml and weights that are filled by rule."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = tiny_config(*overrides)
    (folder / "config.yaml").write_text(to_yaml(cfg))
    model = build_model(cfg)
    fill_model(model, seed=seed)
    save_weights(model, folder / weights)
    return folder
