"""The detector around a counting stand-in for the model, and around a small real one."""

import pytest
import torch
from tiny import tiny_glip
from torch import Tensor, nn

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

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.calls = {"image": 0, "text": 0, "ground": 0}
        self.text_dtypes: list[torch.dtype] = []
        self.eval()

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


def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    model = Stand()
    detector = Detector(model, Postprocessor(), remembered_prompts=2)
    for logit in (1, 2, 1, 3, 1):  # 3 pushes 2 out, not 1
        detector(pictures(), [words(logit)], [(20, 32)])
    assert model.calls["text"] == 3
    detector(pictures(), [words(2)], [(20, 32)])
    assert model.calls["text"] == 4
    forgetful = Detector(model, Postprocessor(), remembered_prompts=0)
    forgetful(pictures(), [words(2), words(2)], [(20, 32)])
    assert model.calls["text"] == 6


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


@pytest.mark.parametrize("change", [load, assign, step, replace, write_in_inference_mode])
def test_new_weights_are_noticed(change) -> None:
    model = Stand()
    detector = Detector(model, Postprocessor())
    detector(pictures(), [words(4)], [(20, 32)])
    change(model)
    (found,) = detector(pictures(), [words(4)], [(20, 32)])
    torch.testing.assert_close(found.scores, (torch.tensor([2.0]).sigmoid() * 0.5).sqrt())


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
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        Detector(model, Postprocessor(), remembered_prompts=-1)


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
