"""A whole GLIP, if a tiny one, learns one picture by heart and finds what its words say."""

from collections.abc import Iterator

import pytest
import torch
from tiny import tiny_glip
from toy_training import CPU, ToyRecorder

from glipkit.data.train_batch import TrainBatch
from glipkit.engine.ema import Ema
from glipkit.engine.loop_state import LoopSettings, LoopState
from glipkit.engine.optimizer import Rates, make_optimizer
from glipkit.engine.schedule import Plan, Schedule
from glipkit.engine.train_loop import train
from glipkit.engine.tuning import prepare
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.learner import Learner
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.boxes import iou
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget

SIZE = (96, 128)
BOXES = torch.tensor([[8.0, 12.0, 55.0, 75.0], [70.0, 30.0, 118.0, 86.0]])
IDS = torch.tensor([[101, 2417, 1012, 2630, 102]])  # red . blue
PHRASES = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])


def drawn() -> TrainBatch:
    """A red and a blue rectangle on grey, as the model sees them."""
    pixels = torch.zeros(1, 3, *SIZE)
    for colour, (x1, y1, x2, y2) in zip((2, 0), BOXES.int().tolist()):  # BGR
        pixels[0, colour, y1:y2, x1:x2] = 2.0
    return TrainBatch(
        ImageBatch(pixels, (SIZE,)),
        PromptBatch(IDS, IDS > 0, (PHRASES,)),
        (GroundingTarget(BOXES, torch.eye(2).bool(), 7),),
    )


class Again:
    """The same batch in every step."""

    def batches(self, first_step: int) -> Iterator[TrainBatch]:
        while True:
            yield drawn()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On maps this small, threads that wait for each other take ten times as long as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_one_picture_by_heart() -> None:
    model = tiny_glip()
    plan = prepare(model)
    learner = Learner(model, Criterion(ATSSAssigner()))
    optimizer = make_optimizer(learner, Rates(base=2e-3, text=2e-4, bias_factor=2.0, decay=1e-4))
    recorder, steps, ema = ToyRecorder(), 70, Ema(learner, 0.8)

    def judge(step: int) -> dict[str, float]:
        model.eval()
        with torch.inference_mode():
            batch = drawn()
            output = model(batch.images, batch.prompts)
            (found,) = Postprocessor()(output, batch.prompts.phrase_tokens, (SIZE,))
        overlaps = torch.zeros(2)
        for phrase in range(2):
            mine = found.phrase_ids == phrase
            if mine.any():  # best score first
                overlaps[phrase] = iou(found.boxes[mine][:1], BOXES[phrase, None], plus_one=False)[
                    0, 0
                ]
        return {"AP": float(overlaps.min())}

    outcome = train(
        learner,
        Again(),
        optimizer,
        Schedule(optimizer, Plan(steps, (60,), warmup_steps=10, warmup_factor=0.1)),
        settings=LoopSettings(
            steps, save_every=35, evaluates=True, judges_mean=True, log_every=10, clip_norm=1.0
        ),
        state=LoopState(),
        device=CPU,
        recorder=recorder,
        set_modes=lambda: plan.train(learner),
        save=lambda state: None,
        evaluate=judge,
        ema=ema,
    )
    first, *_, last = recorder.logged.values()
    for loss in ("loss/token", "loss/box", "loss/total"):
        assert last[loss] < 0.6 * first[loss]
    assert outcome.best_ap > 0.7  # 0.95 where this was written
    assert outcome.skipped == 0
