"""One training run put together from its configuration: data, model, loop, judgement, files."""

import json
import logging
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from glipkit.config.load import to_yaml
from glipkit.data.annotation_digest import annotation_digest
from glipkit.data.build import build_test_sets, find_test_sets
from glipkit.data.test_set import TestSet
from glipkit.data.training.build import build_train_loader, find_train_set
from glipkit.engine.build import (
    build_ema,
    build_loop_settings,
    build_optimizer,
    build_schedule,
    build_tuning_plan,
)
from glipkit.engine.checkpoint import save_weights, weights_hash
from glipkit.engine.freed_memory import hand_back_between_parts
from glipkit.engine.loop_state import LoopState
from glipkit.engine.parallel import copy_whole, is_sharded, wrap
from glipkit.engine.pretrained import StartReport, start_weights
from glipkit.engine.recorder import Recorder
from glipkit.engine.run_folder import RunFolder
from glipkit.engine.run_state import RunState
from glipkit.engine.train_loop import train
from glipkit.engine.tuned import save_tuned
from glipkit.engine.tuning import TuningPlan
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.glip import GLIP
from glipkit.programs.evaluation import (
    judge,
    load_tokenizer,
    spoken,
    warn_of_several_prompts,
)
from glipkit.runtime.distributed import (
    broadcast_object,
    from_main,
    rank,
    world_size,
)
from glipkit.runtime.files import write_atomically
from glipkit.runtime.seeding import seed_rank
from glipkit.structures.figures import figure_text

logger = logging.getLogger(__name__)

TRAINED = "trained.json"
BASE = "base.safetensors"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left behind."""

    steps: int
    reason: str  # why it ended
    best_step: int | None  # None: nothing was evaluated
    best_ap: float | None  # or R@1, where only captions were judged
    skipped_steps: int
    is_partial: bool  # what is saved goes on top of the base weights
    base: str  # the weights that training started from
    trained_parameters: int
    saved: dict[str, int]  # file name -> bytes
    digest: str  # `weights_hash` of the final weights

    def file(self, which: str) -> str:
        """The name of the file with the "best" or "final" weights."""
        return weights_file(which, self.is_partial)


def weights_file(which: str, is_partial: bool) -> str:
    """Where "best", "final" or "final_ema" weights are saved."""
    return f"{'tuned' if is_partial else 'model'}_{which}.safetensors"


def train_model(
    cfg: CfgNode,
    *,
    folder: Path,
    weight: str,
    device: torch.device,
    partial: bool = False,
    allow_changes: bool = False,
    tensorboard: bool = False,
) -> Trained:
    """Train as a configuration says; the same call goes on with an interrupted run.

    A run whose annotation files have changed since is refused, as one of other settings is
    (`annotation_digest` says what is looked at; pictures are not).

    Leaves in `folder`: config.yaml, run.json, metrics.jsonl, last.pt (all that is needed to go on),
    the best weights on the validation data and the final ones, trained.json.

    Args:
        cfg: loaded with `training=True`.
        folder: of this run alone.
        weight: what to start from; see `start_weights`. Empty: random weights.
        device: of this rank.
        partial: load what fits of `weight`.
        allow_changes: go on with a run that was made with other settings or data.
        tensorboard: write curves for TensorBoard too.

    Raises:
        ValueError, FileNotFoundError: something in the configuration, the data or the folder is
            not usable; says what.
        KeyboardInterrupt: the run was stopped; it is saved.
    """
    settings = {**cfg, "--weight": weight, "--partial-weight": partial}
    data = from_main(lambda: _data(cfg))
    with RunFolder.open(folder, settings, data=data, allow_changes=allow_changes) as run:
        if run.status == "finished":
            logger.info("%s holds a finished run of this very command: nothing to do", folder)
            return _read(folder)
        parts = _Run(cfg, run, weight, device, partial=partial, tensorboard=tensorboard)
        trained = parts.run()
        from_main(lambda: _write(folder, trained))
        run.finish()
    return trained


def _data(cfg: CfgNode) -> dict[str, str]:
    """Digests of what a run learns from, and of what steers it by validation.

    A file that is gone has none: a finished run needs it no longer, another one will miss it.
    """
    found = {
        f"DATASETS.TRAIN {name}": find_train_set(cfg, name, quiet=True)[1]
        for name in cfg.DATASETS.TRAIN
    }
    if cfg.TEST.DURING_TRAINING:
        names = (f"DATASETS.TEST {name}" for name in cfg.DATASETS.TEST)
        found |= zip(names, find_test_sets(cfg))
    digests = {}
    for key, spec in found.items():
        with suppress(FileNotFoundError):
            digests[key] = annotation_digest(spec)
    return digests


def start_model(cfg: CfgNode, weight: str, *, partial: bool = False) -> tuple[GLIP, StartReport]:
    """The model that training starts from; what no file gives is drawn from SOLVER.SEED.

    Args:
        cfg: the configuration.
        weight: a file or a name in MODEL/; nothing for none.
        partial: take what fits of the file.
    """
    torch.manual_seed(cfg.SOLVER.SEED)  # the same on all ranks
    model = build_model(cfg)
    name = cfg.MODEL.LANGUAGE_BACKBONE.MODEL_TYPE
    return model, start_weights(model, weight, text_encoder=name, strict=not partial)


class _Run:
    """The parts of one run, made in the order in which their mistakes are cheapest to find."""

    def __init__(
        self,
        cfg: CfgNode,
        run: RunFolder,
        weight: str,
        device: torch.device,
        *,
        partial: bool,
        tensorboard: bool,
    ) -> None:
        self.cfg, self.device = cfg, device
        self.place, self.folder = run, run.path
        self.resumes = run.status == "resumes"
        self.tensorboard = tensorboard
        tokenizer = load_tokenizer(cfg)
        self.loader = build_train_loader(
            *(cfg, tokenizer),
            rank=rank(),
            world_size=world_size(),
            pin_memory=device.type == "cuda",
        )
        self.test_sets: list[TestSet] = []
        if cfg.TEST.DURING_TRAINING:
            self.test_sets = build_test_sets(cfg, tokenizer)
        model, start = start_model(cfg, weight, partial=partial)
        self.base_hash = broadcast_object(weights_hash(model))  # `wrap` spreads its weights too
        self.learner = build_learner(cfg, model).to(device)
        if device.type == "cpu" and cfg.MODEL.BACKBONE.USE_CHECKPOINT:  # memory is short
            hand_back_between_parts(self.learner)
        self.plan: TuningPlan = build_tuning_plan(cfg, model, self.learner.criterion)
        logger.info("what is trained:\n%s", self.plan.report())
        self._warn(model)
        self.base = str(start.path or "")
        if self.plan.is_partial and (partial or start.kind != "glip"):
            # No file holds these weights, and what is saved is of no use without them.
            self.base = str(self.folder / BASE)
            from_main(lambda: self._keep_base(model))

    def _warn(self, model: GLIP) -> None:
        """Say what cannot teach what the mode learns."""
        if model.prompt_offset is not None and model.prompt_offset.weight.requires_grad:
            warn_of_several_prompts(self.test_sets)
        random = list(self.learner.criterion.parameters())
        if random and not any(parameter.requires_grad for parameter in random):
            logger.warning(
                "the head of the contrastive loss is random, as no checkpoint holds it, and does "
                "not learn in this mode: %s False leaves its loss out",
                "MODEL.DYHEAD.FUSE_CONFIG.USE_CONTRASTIVE_ALIGN_LOSS",
            )

    def run(self) -> Trained:
        """Train to the end."""
        cfg, steps_per_epoch = self.cfg, self.loader.steps_per_epoch
        wrapped = wrap(
            self.learner,
            cfg.SOLVER.PARALLEL,
            device=self.device,
            find_unused_parameters=cfg.SOLVER.FIND_UNUSED_PARAMETERS,
        )
        optimizer = build_optimizer(cfg, self.learner)
        schedule = build_schedule(cfg, optimizer, steps_per_epoch)
        ema = build_ema(cfg, self.learner)
        settings = build_loop_settings(cfg, self.device, steps_per_epoch)
        state = LoopState()
        files = RunState(
            self.folder,
            learner=wrapped,
            optimizer=optimizer,
            schedule=schedule,
            ema=ema,
            device=self.device,
            whole=not self.plan.is_partial,
            base_hash=self.base_hash,
        )
        seed_rank(cfg.SOLVER.SEED)
        if self.resumes:
            files.load(state)
            logger.info("going on from step %d of %d", state.step, settings.total_steps)
        from_main(self._adopt)
        with closing(self._recorder(settings.total_steps, state.step)) as recorder:
            outcome = train(
                *(wrapped, self.loader, optimizer, schedule),
                settings=settings,
                state=state,
                device=self.device,
                recorder=recorder,
                set_modes=lambda: self.plan.train(wrapped),
                save=files.save,
                evaluate=self._evaluate if self.test_sets else None,
                keep_best=lambda step: self._keep("best", step),
                ema=ema,
            )
        self._keep("final", outcome.steps)
        if ema is not None:
            with ema.applied():
                self._keep("final_ema", outcome.steps)
        return Trained(
            steps=outcome.steps,
            reason=outcome.reason,
            best_step=outcome.best_step,
            best_ap=outcome.best_ap,
            skipped_steps=outcome.skipped,
            is_partial=self.plan.is_partial,
            base=self.base,
            trained_parameters=sum(p.numel() for p in self.learner.parameters() if p.requires_grad),
            saved=self._sizes(best=outcome.best_step is not None, mean=ema is not None),
            digest=weights_hash(self._plain()),
        )

    def _keep_base(self, model: GLIP) -> None:
        if not (self.resumes and (self.folder / BASE).exists()):
            save_weights(model, self.folder / BASE)

    def _adopt(self) -> None:
        """Write down what the run is made with, now that what it goes on from is known to fit."""
        self.place.adopt()
        write_atomically(self.folder / "config.yaml", to_yaml(self.cfg))

    def _recorder(self, total_steps: int, first_step: int) -> Recorder:
        curves = self.cfg.TENSORBOARD_EXP
        if curves in ("", "OUTPUT"):  # the published default, which names no folder of a run's own
            curves = self.folder / "tensorboard"
        return Recorder(
            self.folder,
            total_steps=total_steps,
            first_step=first_step,
            tensorboard_dir=Path(curves) if self.tensorboard else None,
            label=self.folder.name,
        )

    def _evaluate(self, step: int) -> Mapping[str, float | None]:
        """Figures of the weights as they are now: their means over the test sets that have them."""
        model = self._plain().eval()
        digest = weights_hash(model)
        found = []
        for test_set in self.test_sets:
            results = judge(
                *(self.cfg, model, test_set),
                folder=self.folder / "validation" / test_set.name,
                digest=digest,
                device=self.device,
            )
            logger.info("step %d, %s: %s", step, test_set.name, _figures(results.metrics))
            found.append(results.metrics)
        names = dict.fromkeys(name for metrics in found for name in metrics)
        return {name: _mean([metrics.get(name) for metrics in found]) for name in names}

    def _keep(self, which: str, step: int) -> None:
        model = self._plain()
        path = self.folder / weights_file(which, self.plan.is_partial)

        def write() -> None:
            if not self.plan.is_partial:
                save_weights(model, path)
                return
            save_tuned(
                *(model, path, self.plan.trained),
                base_path=self.base,
                base_hash=self.base_hash,
                mode=self.plan.mode or "frozen parts",
                extra={"step": str(step), **spoken(self.test_sets)},
            )

        from_main(write)  # a full disk is an error on every rank

    def _sizes(self, *, best: bool, mean: bool) -> dict[str, int]:
        """Bytes of the files of this run; what an earlier one left in the folder is not its own."""
        kept = {"best": best, "final": True, "final_ema": mean}
        names = [weights_file(which, self.plan.is_partial) for which in kept if kept[which]]
        return {name: (self.folder / name).stat().st_size for name in names}

    def _plain(self) -> GLIP:
        """The model with whole weights, to be asked part by part."""
        model: nn.Module = self.learner.model
        if not is_sharded(self.learner):
            return model
        whole = build_model(self.cfg).to(self.device)
        copy_whole(model, whole)
        return whole


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _figures(metrics: Mapping[str, float | None]) -> str:
    shown = list(metrics.items())[:3]  # an evaluator names the main ones first
    return ", ".join(f"{k} {figure_text(v, '.4f')}" for k, v in shown)


def _write(folder: Path, trained: Trained) -> None:
    write_atomically(folder / TRAINED, json.dumps(asdict(trained), indent=2) + "\n")


def _read(folder: Path) -> Trained:
    file = folder / TRAINED
    try:
        return Trained(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}), which says what the finished run left; the weights "
            "beside it can be judged with tools/test_grounding_net.py"
        ) from error
