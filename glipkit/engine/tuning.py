"""What of a model learns: the modes of fine-tuning, and the keys that freeze single parts."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn

from glipkit.modeling.glip import GLIP

logger = logging.getLogger(__name__)

# What linear probing trains of the head (BEHAVIOUR 16): attributes of the predictor. The classifier
# beside them is never trained, and the level scales stay as they were pre-trained.
HEAD_PROJECTIONS = ("box", "centerness", "text_projection", "log_scale", "text_bias", "bias")

_MODE_KEY = "SOLVER.TUNING_HIGHLEVEL_OVERRIDE"
_OFFSET_KEY = "MODEL.DYHEAD.FUSE_CONFIG.ADD_LINEAR_LAYER"


class _Trains(NamedTuple):
    """Which parts learn."""

    backbone: bool = False
    pyramid: bool = False
    head: Literal["all", "projections", "nothing"] = "nothing"
    text: bool = False
    offset: bool = False


# DESIGN 6, row by row.
MODES = {
    "full": _Trains(backbone=True, pyramid=True, head="all", text=True, offset=True),
    "linear_prob": _Trains(head="projections"),
    "language_prompt_v1": _Trains(text=True),
    "language_prompt_v2": _Trains(offset=True),
    "language_prompt_v3": _Trains(head="projections", text=True),
    "language_prompt_v4": _Trains(head="projections", offset=True),
}


class _Row(NamedTuple):
    """One line of the report."""

    part: str
    tensors: int
    trained_tensors: int
    parameters: int
    trained_parameters: int
    frozen_below: tuple[str, ...]  # the largest modules inside that do not learn


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """What is trained, decided once and held to."""

    mode: str | None  # None: the FREEZE keys decided
    trained: tuple[str, ...]  # parameters, by the model's names
    is_partial: bool  # only `trained` is saved, beside a reference to the base weights
    rows: tuple[_Row, ...]

    def train(self, module: nn.Module) -> None:
        """Training mode for what learns, evaluation mode for what is frozen.

        Frozen parts drop nothing (BEHAVIOUR 16): no dropout, no drop path, no drop block. To be
        called before training and after every evaluation.

        Args:
            module: the model, or what holds it: a learner, a wrapper for several processes.
        """
        module.train()
        for _, frozen in _frozen_modules(module):
            frozen.eval()

    def report(self) -> str:
        """A table for people: module, tensors, parameters, of how many, and what is frozen."""
        lines = [("module", "trained tensors", "trained parameters", "of all", "state")]
        lines += [_cells(row) for row in (*self.rows, _total(self.rows))]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        return "\n".join(
            "  ".join((part.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]), state))
            for part, *numbers, state in lines
        )


def prepare(
    model: GLIP,
    *,
    mode: str | None = None,
    freeze_at: int = -1,
    freeze_backbone: bool = False,
    freeze_pyramid: bool = False,
    freeze_text: bool = False,
    freeze_head: bool = False,
    linear_prob: bool = False,
    criterion: nn.Module | None = None,
) -> TuningPlan:
    """Decide what learns, and switch gradients on there and off everywhere else.

    Args:
        model: its `requires_grad` flags are set; modes of modules are left to `TuningPlan.train`.
        mode: a row of the table of modes (DESIGN 6); None leaves it to the switches below, which
            with a mode may only freeze what the mode does not train.
        freeze_at: stages of the image encoder without gradient, the patch embedding first: 2 is
            the patch embedding and the first stage; -1 none (BEHAVIOUR 2).
        freeze_backbone: the whole image encoder.
        freeze_pyramid: the feature pyramid.
        freeze_text: the text encoder.
        freeze_head: tower and predictor.
        linear_prob: train the projections of the head and nothing else, except a learned prompt.
        criterion: heads that only a loss uses. They belong to the head and learn where all of it
            does.

    Raises:
        ValueError: an unknown mode, a mode and a switch that contradict each other, or nothing left
            to train; names the keys.
    """
    switches = {
        "MODEL.BACKBONE.FREEZE": (freeze_backbone, {"backbone": False}),
        "MODEL.FPN.FREEZE": (freeze_pyramid, {"pyramid": False}),
        "MODEL.LANGUAGE_BACKBONE.FREEZE": (freeze_text, {"text": False}),
        "MODEL.RPN.FREEZE": (freeze_head, {"head": "nothing"}),
        "MODEL.LINEAR_PROB": (
            linear_prob,
            {"backbone": False, "pyramid": False, "text": False, "head": "projections"},
        ),
    }
    on = {key: changes for key, (switched, changes) in switches.items() if switched}
    trains = _by_mode(mode, on) if mode is not None else _by_switches(on)
    _check_offset(model, mode, trains)
    _check_stages(model, freeze_at)
    _switch_gradients(model, trains, freeze_at, criterion)
    trained = tuple(name for name, p in model.named_parameters() if p.requires_grad)
    if not trained:
        keys = ", ".join([*on, *(["MODEL.BACKBONE.FREEZE_CONV_BODY_AT"] if freeze_at >= 0 else [])])
        raise ValueError(f"nothing is left to train: everything is frozen by {keys}")
    parts = {name: child for name, child in model.named_children() if _count(child)}
    if criterion is not None and _count(criterion):
        parts["criterion"] = criterion
    return TuningPlan(
        mode=mode,
        trained=trained,
        is_partial=mode not in (None, "full") or (mode is None and linear_prob),
        rows=tuple(_row(name, part) for name, part in parts.items()),
    )


def _by_mode(mode: str, on: dict[str, dict[str, object]]) -> _Trains:
    if mode not in MODES:
        raise ValueError(f"{_MODE_KEY} is {mode!r}; known: None, {', '.join(map(repr, MODES))}")
    trains = MODES[mode]
    for key, changes in on.items():
        if any(_is_less(changes[part], getattr(trains, part)) for part in changes):
            raise ValueError(
                f"{_MODE_KEY} {mode!r} and {key} True contradict each other: the mode trains what "
                f"the key freezes. Pass {key} False (the configuration may have set it); or leave "
                f"{_MODE_KEY} out, and the FREEZE keys alone decide"
            )
    return trains


def _is_less(switched: object, trained: object) -> bool:
    """Whether a switch takes away what a mode trains."""
    order = {"nothing": 0, "projections": 1, "all": 2}
    return order.get(switched, switched) < order.get(trained, trained)


def _by_switches(on: dict[str, dict[str, object]]) -> _Trains:
    if {"MODEL.RPN.FREEZE", "MODEL.LINEAR_PROB"} <= on.keys():
        raise ValueError(
            "MODEL.RPN.FREEZE True and MODEL.LINEAR_PROB True contradict each other: linear "
            "probing trains projections of what the other key freezes. Leave one of them out"
        )
    trains = MODES["full"]
    for changes in on.values():
        trains = trains._replace(**changes)
    return trains


def _check_offset(model: GLIP, mode: str | None, trains: _Trains) -> None:
    if mode not in (None, "full") and trains.offset and model.prompt_offset is None:
        raise ValueError(
            f"{_MODE_KEY} {mode!r} trains a learned prompt, and the model was built without a "
            f"place for one; set the mode before the model is built, or {_OFFSET_KEY} True"
        )


def _check_stages(model: GLIP, freeze_at: int) -> None:
    most = len(model.backbone.stages) + 1
    if not -1 <= freeze_at <= most:
        raise ValueError(
            f"MODEL.BACKBONE.FREEZE_CONV_BODY_AT is {freeze_at}; expected -1 (nothing is frozen) "
            f"to {most} (the patch embedding and all {most - 1} stages)"
        )


def _switch_gradients(
    model: GLIP, trains: _Trains, freeze_at: int, criterion: nn.Module | None
) -> None:
    model.requires_grad_(False)
    model.backbone.requires_grad_(trains.backbone)
    if freeze_at >= 0:
        model.backbone.patch_embed.requires_grad_(False)
        for stage in model.backbone.stages[: max(freeze_at - 1, 0)]:
            stage.requires_grad_(False)
    model.pyramid.requires_grad_(trains.pyramid)
    model.text_encoder.requires_grad_(trains.text)
    model.tower.requires_grad_(trains.head == "all")
    model.predictor.requires_grad_(trains.head == "all")
    model.predictor.class_logits.requires_grad_(False)
    for name in HEAD_PROJECTIONS:
        getattr(model.predictor, name).requires_grad_(trains.head != "nothing")
    if model.prompt_offset is not None:
        model.prompt_offset.requires_grad_(trains.offset)
    if criterion is not None:
        criterion.requires_grad_(trains.head == "all")


def _frozen_modules(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The largest modules below `module` that have parameters, all of them frozen."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _frozen_modules(child, f"{name}.{child_name}".lstrip("."))


def _count(module: nn.Module) -> int:
    return sum(1 for _ in module.parameters())


def _row(part: str, module: nn.Module) -> _Row:
    parameters = list(module.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return _Row(
        part=part,
        tensors=len(parameters),
        trained_tensors=len(trained),
        parameters=sum(parameter.numel() for parameter in parameters),
        trained_parameters=sum(parameter.numel() for parameter in trained),
        frozen_below=tuple(name for name, _ in _frozen_modules(module)),
    )


def _total(rows: tuple[_Row, ...]) -> _Row:
    sums = [sum(row[column] for row in rows) for column in range(1, 5)]
    return _Row("total", *sums, frozen_below=())


def _cells(row: _Row) -> tuple[str, ...]:
    share = row.trained_parameters / row.parameters
    if row.part == "total":
        state = f"{share:.3%} trained"
    elif not row.trained_tensors:
        state = "frozen"
    else:
        state = "trained" + (f", except {', '.join(row.frozen_below)}" if row.frozen_below else "")
    return (
        row.part,
        f"{row.trained_tensors} of {row.tensors}",
        f"{row.trained_parameters:,}",
        f"{row.parameters:,}",
        state,
    )
