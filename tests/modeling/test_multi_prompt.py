"""The detector around a counting stand-in for the model, and around a small real one."""

import logging
import weakref

import pytest
import torch
from tiny import tiny_glip
from torch import Tensor, nn
from torch.nn.utils import parametrize

from glipkit.engine.ema import Ema
from glipkit.grounding.captions import class_prompts
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.images import ImageBatch, pad_images
from glipkit.structures.prompts import TokenizedPrompt

NAMES = ["cat", "dog", "traffic light", "owl", "fox"]


class Stand(nn.Module):
    """A model that sees one box: token ids are its logits, so that answers can be foretold."""

    prompt_offset = None

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.room = room  # prompts x pictures that fit into memory
        self.shortage: type[Exception] = torch.OutOfMemoryError
        self.batches: list[tuple[int, int]] = []  # (prompts x pictures, tokens)
        self.calls = {"image": 0, "text": 0, "ground": 0}
        self.text_dtypes: list[torch.dtype] = []
        self.eval()

    @property
    def text_encoder(self) -> nn.Module:
        return self

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, ...]:
        self.calls["image"] += 1
        return (pixels,)

    def encode_text(self, token_ids: Tensor, token_mask: Tensor) -> TextFeatures:
        self.calls["text"] += 1
        logits = token_ids[..., None] * self.weight  # (1, T, 1)
        self.text_dtypes.append((logits @ self.weight.expand(1, 1)).dtype)
        return TextFeatures(logits, logits, token_mask)

    def ground(self, levels: tuple[Tensor, ...], text: TextFeatures) -> GroundingOutput:
        self.calls["ground"] += 1
        B = len(levels[0])
        assert len(text.hidden) == B
        self.batches.append(tuple(text.mask.shape))
        if self.room < B:
            raise self.shortage("DefaultCPUAllocator: not enough memory: you tried to allocate ...")
        level = LevelPrediction(text.hidden.mT.float(), torch.zeros(B, 1, 4), torch.zeros(B, 1))
        return GroundingOutput((level,), (torch.tensor([[2.0, 4, 5, 7]]),))


def words(*logits: int) -> TokenizedPrompt:
    """A prompt of one-token phrases with the given ids."""
    ids = torch.tensor([-101, *logits, -102])
    phrases = torch.eye(len(ids), dtype=torch.int64)[1:-1]
    return TokenizedPrompt(ids, torch.ones(len(ids), dtype=torch.bool), phrases)


def pictures(count: int = 1) -> ImageBatch:
    return ImageBatch(torch.zeros(count, 3, 32, 32), ((20, 32),) * count)


def test_phrase_ids_run_on_and_boxes_are_in_original_pixels() -> None:
    found = Detector(Stand(), Postprocessor())(
        pictures(2), [words(1, -9, 3), words(-9, 2)], [(20, 32), (40, 96)]
    )
    assert [detections.phrase_ids.tolist() for detections in found] == [[2, 4, 0]] * 2
    logits = torch.tensor([3.0, 2.0, 1.0])
    torch.testing.assert_close(found[0].scores, (logits.sigmoid() * 0.5).sqrt())
    torch.testing.assert_close(found[0].boxes, torch.tensor([[2.0, 4, 5, 7]] * 3))
    torch.testing.assert_close(found[1].boxes, torch.tensor([[6.0, 8, 15, 14]] * 3))
    assert found[1].image_size == (40, 96)


def test_no_cap_and_no_suppression_between_prompts() -> None:
    detector = Detector(Stand(), Postprocessor(detections_per_image=1))
    (found,) = detector(pictures(), [words(1, 2), words(3, 4), words(3, 4)], [(20, 32)])
    assert found.phrase_ids.tolist() == [3, 5, 1]


def test_nothing_is_computed_twice() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    prompts = [words(1), words(2), words(1, 2)]
    detector(pictures(2), prompts, [(20, 32)] * 2)
    assert model.calls == {"image": 1, "text": 3, "ground": 3}
    detector(pictures(2), [words(2), words(1).padded(64)], [(20, 32)] * 2)
    assert model.calls == {"image": 2, "text": 3, "ground": 5}


def test_padded_or_not_is_the_same_prompt_but_other_phrases_are_read_anew() -> None:
    detector = Detector(Stand(), Postprocessor())
    prompt = words(1, 2)
    other = TokenizedPrompt(prompt.token_ids, prompt.token_mask, prompt.phrase_tokens[1:])
    (both,) = detector(pictures(), [prompt], [(20, 32)])
    (one,) = detector(pictures(), [other], [(20, 32)])
    assert both.phrase_ids.tolist() == [1, 0]
    assert one.phrase_ids.tolist() == [0]
    torch.testing.assert_close(one.scores, both.scores[:1])


ONE = 8 * (4 + 1)  # bytes of a short prompt: 8 tokens with float32 features and a mask


def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor(), remembered_bytes=2 * ONE)
    for logit in (1, 2, 1, 3, 1):  # 3 pushes 2 out, not 1
        detector(pictures(), [words(logit)], [(20, 32)])
    assert model.calls["text"] == 3
    detector(pictures(), [words(2)], [(20, 32)])
    assert model.calls["text"] == 4
    forgetful = Detector(model, Postprocessor(), remembered_bytes=0)
    forgetful(pictures(), [words(2), words(2)], [(20, 32)])
    assert model.calls["text"] == 6


def test_many_prompts_are_encoded_once_however_many_pictures_come() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    for _ in range(2):
        detector(pictures(), [words(logit) for logit in range(300)], [(20, 32)])
    assert model.calls["text"] == 300


def test_of_more_prompts_than_fit_some_are_found_again_in_every_round() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor(), remembered_bytes=3 * ONE + 1)
    for calls in (5, 7, 9):
        detector(pictures(), [words(logit) for logit in range(5)], [(20, 32)])
        assert model.calls["text"] == calls
    for calls in (14, 16):  # of another vocabulary as soon as it is asked
        detector(pictures(), [words(logit) for logit in range(10, 15)], [(20, 32)])
        assert model.calls["text"] == calls


def test_no_more_texts_are_alive_than_are_asked_together_and_remembered() -> None:
    class Counting(Stand):
        def encode_text(self, token_ids: Tensor, token_mask: Tensor) -> TextFeatures:
            text = super().encode_text(token_ids, token_mask)
            made.append(weakref.ref(text.hidden))
            most.append(sum(each() is not None for each in made))
            return text

    made: list[weakref.ref] = []
    most: list[int] = []
    detector = Detector(Counting(), Postprocessor(), remembered_bytes=3 * ONE, chunk_batch=2)
    detector(pictures(2), [words(logit) for logit in range(40)], [(20, 32)] * 2)
    assert len(made) == 40
    assert max(most) <= 3 + 2


def load(model: Stand) -> None:
    model.load_state_dict({"weight": torch.tensor(0.5)})


def assign(model: Stand) -> None:
    model.load_state_dict({"weight": torch.tensor(0.5)}, assign=True)


def step(model: Stand) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.weight.sum().backward()
    optimizer.step()


def replace(model: Stand) -> None:
    model.weight = nn.Parameter(torch.tensor(0.5))


def write_in_inference_mode(model: Stand) -> None:
    with torch.inference_mode():
        model.weight.mul_(0.5)


def write_past_the_count(model: Stand) -> None:
    model.weight.data.mul_(0.5)


def copy(model: Stand) -> None:
    with torch.no_grad():
        model.weight.copy_(torch.tensor(0.5))


def move_there_and_back(model: Stand) -> None:
    model.to(torch.float64)
    load(model)
    model.to(torch.float32)


def swap_in_the_mean(model: Stand) -> None:
    ema = Ema(model, 0.5)
    step(model)
    ema.load_state_dict({"weight": torch.tensor(0.5)})
    ema.applied().__enter__()


def add_an_update(model: Stand) -> None:
    """As LoRA does: the weight becomes a frozen one and something learnt."""

    class Plus(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.update = nn.Parameter(torch.tensor(-0.5))

        def forward(self, weight: Tensor) -> Tensor:
            return weight + self.update

    parametrize.register_parametrization(model, "weight", Plus())


def cast_weights(model: Stand) -> None:
    model.bfloat16()
    load(model)


@pytest.mark.parametrize(
    "change",
    [
        *(load, assign, step, replace, write_in_inference_mode, write_past_the_count, copy),
        *(move_there_and_back, swap_in_the_mean, add_an_update, cast_weights),
    ],
)
def test_new_weights_are_noticed(change) -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    detector(pictures(), [words(4)], [(20, 32)])
    change(model)
    (found,) = detector(pictures(), [words(4)], [(20, 32)])
    torch.testing.assert_close(found.scores, (torch.tensor([2.0]).sigmoid() * 0.5).sqrt())


CHUNKS = [words(1, 7), words(2), words(*range(20)), words(3, 4, 5), words(6)]


def answers(found) -> list[tuple]:
    return [(d.phrase_ids.tolist(), d.scores.tolist(), d.boxes.tolist()) for d in found]


@pytest.mark.parametrize("num_pictures", [1, 3])
@pytest.mark.parametrize("chunk_batch", [1, 2, 3, 5, 99])
def test_prompts_asked_together_answer_as_one_by_one(num_pictures: int, chunk_batch: int) -> None:
    model = Stand()
    sizes = [(20, 32)] * num_pictures
    alone = Detector(Stand(), Postprocessor(), chunk_batch=1)(pictures(num_pictures), CHUNKS, sizes)
    detector = Detector(model, Postprocessor(), chunk_batch=chunk_batch)
    assert answers(detector(pictures(num_pictures), CHUNKS, sizes)) == answers(alone)
    together = min(chunk_batch, len(CHUNKS))
    assert model.calls["ground"] == -(-len(CHUNKS) // together)
    assert model.batches[0] == (together * num_pictures, 24)  # the longest first
    if chunk_batch == 2:  # ... so that only it is padded to
        assert [tokens for _, tokens in model.batches] == [24, 8, 8]


def test_on_the_cpu_one_prompt_at_a_time_is_chosen() -> None:
    model = Stand()
    Detector(model, Postprocessor())(pictures(2), CHUNKS, [(20, 32)] * 2)
    assert [rows for rows, _ in model.batches] == [2] * len(CHUNKS)


@pytest.mark.parametrize("shortage", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_batch_and_goes_on(
    shortage: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    model = Stand(room=2)
    model.shortage = shortage
    detector = Detector(model, Postprocessor(), chunk_batch=5)
    expected = Detector(Stand(), Postprocessor())(pictures(), CHUNKS, [(20, 32)])
    with caplog.at_level(logging.WARNING):
        assert answers(detector(pictures(), CHUNKS, [(20, 32)])) == answers(expected)
    assert [rows for rows, _ in model.batches] == [5, 2, 2, 1]
    assert caplog.messages == ["out of memory with 5 prompts at once; going on with 2"]
    model.batches.clear()
    detector(pictures(), CHUNKS, [(20, 32)])  # it has learnt
    assert model.batches[0][0] == 2
    assert len(caplog.messages) == 1


def test_memory_of_a_failed_attempt_is_free_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuffed(Stand):
        def ground(self, levels: tuple[Tensor, ...], text: TextFeatures) -> GroundingOutput:
            made = torch.zeros(3)
            attempts.append(weakref.ref(made))
            return super().ground(levels, text)

    attempts: list[weakref.ref] = []
    alive: list[bool] = []
    detector = Detector(Stuffed(room=2), Postprocessor(), chunk_batch=4)
    failed = detector.chunk_batch.failed

    def note(*given: object) -> None:  # from here on memory is handed back
        alive.append(attempts[-1]() is not None)
        failed(*given)

    monkeypatch.setattr(detector.chunk_batch, "failed", note)
    detector(pictures(), CHUNKS, [(20, 32)])
    assert alive == [False]


def test_too_little_memory_for_one_prompt_says_what_to_do() -> None:
    detector = Detector(Stand(room=1), Postprocessor(), chunk_batch=4)
    with pytest.raises(
        MemoryError, match=r"one prompt of 24 tokens about 2 picture.* 32x32.*TEST\.IMS_PER_BATCH"
    ):
        detector(pictures(2), CHUNKS, [(20, 32)] * 2)


def test_other_errors_fly() -> None:
    model = Stand(room=0)
    model.shortage = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        Detector(model, Postprocessor(), chunk_batch=4)(pictures(), CHUNKS, [(20, 32)])


def test_a_learned_prompt_is_asked_and_its_changes_are_noticed() -> None:
    model = tiny_glip(prompt_offset=True)
    detector = Detector(model, Postprocessor(score_threshold=0.0))
    ids = torch.tensor([101, 5000, 6000, 102])
    prompt = TokenizedPrompt(ids, ids > 0, torch.tensor([[0, 1, 1, 0]]))
    images = pad_images([torch.randn(3, 64, 64)])

    def scores() -> Tensor:
        return detector(images, [prompt], [(64, 64)])[0].scores

    before = scores()
    with torch.no_grad():
        model.prompt_offset.weight[1:3, ::2] += 1.0  # every second: a norm follows
    changed = scores()
    assert len(changed) != len(before) or (changed - before).abs().max() > 1e-3
    optimizer = torch.optim.SGD([model.prompt_offset.weight], lr=1.0)
    model.prompt_offset.weight.grad = torch.zeros_like(model.prompt_offset.weight)
    model.prompt_offset.weight.grad[1:3, ::2] = 1.0
    optimizer.step()
    torch.testing.assert_close(scores(), before)
    model.prompt_offset = None
    torch.testing.assert_close(scores(), before)


def test_moved_weights_and_inference_weights_are_noticed() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    detector(pictures(), [words(4)], [(20, 32)])
    model.double()
    detector(pictures(), [words(4)], [(20, 32)])
    assert model.calls["text"] == 2
    with torch.inference_mode():
        unversioned = Stand()
    detector = Detector(unversioned, Postprocessor())
    for _ in range(2):
        detector(pictures(), [words(4)], [(20, 32)])
    assert unversioned.calls["text"] == 2


def test_autocast_is_the_detectors_choice() -> None:
    model = Stand()
    Detector(model, Postprocessor(), autocast_dtype=torch.bfloat16)(
        pictures(), [words(4)], [(20, 32)]
    )
    with torch.autocast("cpu", torch.bfloat16):
        Detector(model, Postprocessor())(pictures(), [words(4)], [(20, 32)])
    assert model.text_dtypes == [torch.bfloat16, torch.float32]


def test_bad_calls_are_named() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    with pytest.raises(ValueError, match="at least one prompt"):
        detector(pictures(), [], [(20, 32)])
    with pytest.raises(ValueError, match="2 pictures came with 1 original sizes"):
        detector(pictures(2), [words(1)], [(20, 32)])
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        Detector(model.train(), Postprocessor())(pictures(), [words(1)], [(20, 32)])
    with pytest.raises(ValueError, match="remembered_bytes must not be negative, got -1"):
        Detector(model, Postprocessor(), remembered_bytes=-1)
    with pytest.raises(ValueError, match=r"TEST\.CHUNK_BATCH must be 0 .* or more, got -1"):
        Detector(model, Postprocessor(), chunk_batch=-1)


def test_each_picture_is_asked_its_own_prompts() -> None:
    model = Stand()
    asked = [[words(1, -9), words(2)], [words(3)], [words(-9), words(2, 1), words(4)]]
    found = Detector(model, Postprocessor()).each(pictures(3), asked, [(20, 32)] * 3)
    assert [each.phrase_ids.tolist() for each in found] == [[2, 0], [0], [3, 1, 2]]
    for each, logits in zip(found, ([2.0, 1.0], [3.0], [4.0, 2.0, 1.0])):
        expected = (torch.tensor(logits).sigmoid() * 0.5).sqrt()
        torch.testing.assert_close(each.scores, expected)
    # Six questions about three pictures, in passes of three.
    assert model.calls == {"image": 1, "text": 6, "ground": 2}


def test_each_goes_on_with_fewer_when_memory_is_short(caplog: pytest.LogCaptureFixture) -> None:
    model = Stand(room=4)
    asked = [[words(1), words(2), words(3)], [words(4), words(5)]]
    detector = Detector(model, Postprocessor(), chunk_batch=4)
    found = detector.each(pictures(2), asked, [(20, 32)] * 2)
    assert [each.phrase_ids.tolist() for each in found] == [[2, 1, 0], [1, 0]]
    assert "going on with 1" in caplog.text
    model.room = 1
    with pytest.raises(MemoryError, match="not enough memory"):
        detector.each(pictures(2), asked, [(20, 32)] * 2)


def test_bad_calls_of_each_are_named() -> None:
    detector = Detector(Stand(), Postprocessor())
    with pytest.raises(ValueError, match="at least one prompt"):
        detector.each(pictures(2), [[words(1)], []], [(20, 32)] * 2)
    with pytest.raises(ValueError, match="2 pictures came with 1 prompts"):
        detector.each(pictures(2), [[words(1)]], [(20, 32)] * 2)


@pytest.fixture(scope="module")
def prompts() -> list[TokenizedPrompt]:
    bert = Tokenizer.load("bert-base-uncased")
    return [bert(prompt) for prompt in class_prompts(NAMES, bert, chunk_size=2)]


def detector_around_tiny(device: str, fused: bool = True) -> Detector:
    # Untrained scores are all alike: the threshold is 0, so that there is something to compare.
    return Detector(tiny_glip(fused).to(device), Postprocessor(score_threshold=0.0))


def assert_same(found, expected) -> None:
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    assert found.phrase_ids.tolist() == expected.phrase_ids.tolist()


@pytest.mark.parametrize("fused", [True, False])
def test_real_model_several_prompts_equal_one_after_the_other(
    prompts: list[TokenizedPrompt], fused: bool, device: str
) -> None:
    images = pad_images([torch.randn(3, 64, 96), torch.randn(3, 50, 90)])
    sizes = [(128, 192), (100, 180)]
    together = detector_around_tiny(device, fused)(images, prompts, sizes)
    again = detector_around_tiny(device, fused)
    for image, found in enumerate(together):
        start = 0
        for prompt in prompts:
            alone = again(images, [prompt], sizes)[image]
            inside = (found.phrase_ids >= start) & (found.phrase_ids < start + prompt.num_phrases)
            torch.testing.assert_close(found.scores[inside], alone.scores, rtol=0, atol=0)
            assert (found.phrase_ids[inside] - start).tolist() == alone.phrase_ids.tolist()
            torch.testing.assert_close(found.boxes[inside], alone.boxes, rtol=0, atol=0)
            start += prompt.num_phrases
        assert found.boxes.device.type == "cpu"


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("num_pictures", [1, 2])
def test_real_model_chunks_together_equal_one_by_one(
    prompts: list[TokenizedPrompt], fused: bool, num_pictures: int, device: str
) -> None:
    images = pad_images([torch.randn(3, 64, 96) for _ in range(num_pictures)])
    sizes = [(128, 192)] * num_pictures
    model = tiny_glip(fused).to(device)
    decide = Postprocessor(score_threshold=0.0)
    expected = Detector(model, decide, chunk_batch=1)(images, prompts, sizes)
    for chunk_batch in (2, 3):
        together = Detector(model, decide, chunk_batch=chunk_batch)(images, prompts, sizes)
        for found, alone in zip(together, expected, strict=True):
            assert_same(found, alone)


def test_real_model_remembers_the_same_features(prompts: list[TokenizedPrompt]) -> None:
    images = pad_images([torch.randn(3, 64, 64)])
    detector = detector_around_tiny("cpu")
    (first,) = detector(images, prompts, [(64, 64)])
    (second,) = detector(images, prompts, [(64, 64)])
    torch.testing.assert_close(first.boxes, second.boxes, rtol=0, atol=0)
    torch.testing.assert_close(first.scores, second.scores, rtol=0, atol=0)


def test_real_model_batch_equals_one_by_one(prompts: list[TokenizedPrompt]) -> None:
    pair = [torch.randn(3, 64, 96), torch.randn(3, 64, 96)]
    detector = detector_around_tiny("cpu")
    together = detector(pad_images(pair), prompts, [(64, 96)] * 2)
    for picture, found in zip(pair, together):
        (alone,) = detector(pad_images([picture]), prompts, [(64, 96)])
        assert_same(found, alone)


def test_real_model_in_bfloat16(prompts: list[TokenizedPrompt]) -> None:
    images = pad_images([torch.randn(3, 64, 64)])
    model = tiny_glip()
    decide = Postprocessor(score_threshold=0.0)
    (low,) = Detector(model, decide, autocast_dtype=torch.bfloat16)(images, prompts, [(64, 64)])
    (full,) = Detector(model, decide)(images, prompts, [(64, 64)])
    assert low.boxes.dtype == low.scores.dtype == torch.float32
    torch.testing.assert_close(low.scores[:20], full.scores[:20], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("chunk_batch", [1, 2])
def test_real_model_own_prompts_equal_one_picture_at_a_time(
    prompts: list[TokenizedPrompt], chunk_batch: int, device: str
) -> None:
    three = [torch.randn(3, 64, 96) for _ in range(3)]
    asked = [prompts[:2], prompts[2:], prompts]
    model = tiny_glip().to(device)
    decide = Postprocessor(score_threshold=0.0)
    together = Detector(model, decide, chunk_batch=chunk_batch).each(
        pad_images(three), asked, [(64, 96)] * 3
    )
    detector = Detector(model, decide)
    for picture, own, found in zip(three, asked, together):
        (alone,) = detector(pad_images([picture]), own, [(64, 96)])
        assert_same(found, alone)
