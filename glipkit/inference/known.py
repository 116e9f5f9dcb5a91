"""The models that have a name. Imports nothing slow, so that help can list them at once."""

from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "models"  # what is installed with glipkit
DEFAULT_THRESHOLD = 0.5  # of scores, where a model has no better one


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that has a name."""

    about: str
    config: str  # a file in `SHIPPED`
    weights: str  # a file in `SHIPPED`, or the name under which the authors published it
    default_threshold: float = DEFAULT_THRESHOLD

    @property
    def config_file(self) -> Path:
        """Where the configuration is."""
        return SHIPPED / self.config


KNOWN = {
    "nano": KnownModel(
        "GLIP in small, comes with glipkit; knows drawn shapes and colours",
        "nano/config.yaml",
        "nano/model.safetensors",
    ),
    "glip-t": KnownModel(
        "GLIP-T: Swin-T, pre-trained on Objects365, GoldG, CC3M and SBU",
        "glip_Swin_T_O365_GoldG.yaml",
        "glip_tiny_model_o365_goldg_cc_sbu.pth",
    ),
    "glip-t-a": KnownModel(
        "GLIP-T (A): without fusion, pre-trained on Objects365",
        "glip_A_Swin_T_O365.yaml",
        "glip_a_tiny_o365.pth",
    ),
    "glip-t-b": KnownModel(
        "GLIP-T (B): pre-trained on Objects365",
        "glip_Swin_T_O365.yaml",
        "glip_tiny_model_o365.pth",
    ),
    "glip-t-c": KnownModel(
        "GLIP-T (C): pre-trained on Objects365 and GoldG",
        "glip_Swin_T_O365_GoldG.yaml",
        "glip_tiny_model_o365_goldg.pth",
    ),
    "glip-l": KnownModel(
        "GLIP-L: Swin-L, pre-trained on 27 million pairs of pictures and words",
        "glip_Swin_L.yaml",
        "glip_large_model.pth",
    ),
}
