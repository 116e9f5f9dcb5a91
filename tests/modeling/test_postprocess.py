import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from glipkit.grounding.alignment import reading_table
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.modeling.postprocess import Postprocessor, best
from glipkit.structures.boxes import clip, iou

SIZE = (64, 80)
LEVELS = [(8, 10), (4, 5)]
ONE_TOKEN_EACH = torch.eye(6, dtype=torch.int64)[:3]  # 3 phrases, 6 tokens


def random_output(images: int, tokens: int = 6, spread: float = 3.0) -> GroundingOutput:
    anchors = AnchorGenerator(strides=(8, 16), sizes=(24, 48))(LEVELS)
    levels = [
        LevelPrediction(
            token_logits=torch.randn(images, len(level), tokens) * spread,
            box_deltas=torch.randn(images, len(level), 4),
            centerness=torch.randn(images, len(level)),
        )
        for level in anchors
    ]
    return GroundingOutput(levels=tuple(levels), anchors=anchors)


def only_image(output: GroundingOutput, image: int) -> GroundingOutput:
    levels = [LevelPrediction(*(part[image : image + 1] for part in lv)) for lv in output.levels]
    return GroundingOutput(levels=tuple(levels), anchors=output.anchors)


def single(logit: float, centerness: float, tokens: int = 6) -> GroundingOutput:
    """One anchor, 10..19 square, whose token 1 has a logit; all others are far below."""
    logits = torch.full((1, 1, tokens), -20.0)
    logits[0, 0, 1] = logit
    level = LevelPrediction(logits, torch.zeros(1, 1, 4), torch.full((1, 1), centerness))
    return GroundingOutput(levels=(level,), anchors=(torch.tensor([[10.0, 10, 19, 19]]),))


def assert_same(a, b) -> None:
    torch.testing.assert_close(a.boxes, b.boxes)
    torch.testing.assert_close(a.scores, b.scores)
    assert a.phrase_ids.tolist() == b.phrase_ids.tolist()


def test_one_box_by_hand() -> None:
    (found,) = Postprocessor()(single(0.0, 0.0), [ONE_TOKEN_EACH], [SIZE])
    torch.testing.assert_close(found.boxes, torch.tensor([[10.0, 10, 19, 19]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.5]))  # sqrt(0.5 * 0.5)
    assert found.phrase_ids.tolist() == [1]
    assert found.image_size == SIZE


def test_threshold_is_strict_and_before_centerness() -> None:
    half = Postprocessor(score_threshold=0.5)
    assert len(half(single(0.0, 9.0), [ONE_TOKEN_EACH], [SIZE])[0]) == 0  # 0.5 is not above 0.5
    (found,) = half(single(0.1, -9.0), [ONE_TOKEN_EACH], [SIZE])
    assert len(found) == 1  # centerness near 0 lowers the score, not the candidate
    assert found.scores[0] < 0.05


def test_boxes_are_clipped_to_the_unpadded_picture() -> None:
    (found,) = Postprocessor()(single(1.0, 1.0), [ONE_TOKEN_EACH], [(15, 18)])
    torch.testing.assert_close(found.boxes, torch.tensor([[10.0, 10, 17, 14]]))


@pytest.mark.parametrize("how", ["MEAN", "MAX", "POWER", "ONEHOT"])
def test_each_picture_has_its_own_phrases(how: str) -> None:
    output = random_output(2)
    phrases = [ONE_TOKEN_EACH, torch.tensor([[0, 0, 0, 1, 2, 0]])]
    sizes = [SIZE, (60, 70)]
    decide = Postprocessor(aggregation=how)
    together = decide(output, phrases, sizes)
    for image in range(2):
        (alone,) = decide(only_image(output, image), [phrases[image]], [sizes[image]])
        assert len(alone) > 0
        assert_same(together[image], alone)
    assert together[1].phrase_ids.unique().tolist() == [0]


def test_more_than_eighty_phrases() -> None:
    phrases = torch.eye(200, dtype=torch.int64)
    (found,) = Postprocessor(detections_per_image=0)(random_output(1, 200), [phrases], [SIZE])
    assert found.phrase_ids.max() > 190


def test_padding_tokens_and_phrases_without_tokens_find_nothing() -> None:
    phrases = torch.zeros(2, 6, dtype=torch.int64)
    phrases[0, 2] = 1
    for how in ("MEAN", "MAX", "POWER"):
        (found,) = Postprocessor(aggregation=how)(random_output(1), [phrases], [SIZE])
        assert found.phrase_ids.unique().tolist() == [0]
    (found,) = Postprocessor()(random_output(1), [phrases[:0]], [SIZE])
    assert len(found) == 0


def test_top_n_is_per_level_and_cap_is_per_picture() -> None:
    output = random_output(1, spread=0.0)  # every anchor is a candidate of every phrase
    keep_all = {"nms_threshold": 1.0, "detections_per_image": 0}
    (found,) = Postprocessor(pre_nms_top_n=7, **keep_all)(output, [ONE_TOKEN_EACH], [SIZE])
    assert len(found) == 14
    (capped,) = Postprocessor(pre_nms_top_n=7, nms_threshold=1.0, detections_per_image=5)(
        output, [ONE_TOKEN_EACH], [SIZE]
    )
    # All three phrases score alike at an anchor: the fifth score is shared by three.
    assert capped.scores.tolist() == found.scores[:6].tolist()


@pytest.mark.parametrize("part", ["token_logits", "box_deltas", "centerness"])
def test_nan_is_no_detection(part: str) -> None:
    output = random_output(1)
    for level in output.levels:
        getattr(level, part)[0, 0] = float("nan")
    (found,) = Postprocessor(detections_per_image=0)(output, [ONE_TOKEN_EACH], [SIZE])
    assert len(found) > 0
    assert found.boxes.isfinite().all()
    assert found.scores.isfinite().all()


def test_low_precision_predictions_are_judged_in_float32() -> None:
    output = random_output(1)
    low = GroundingOutput(
        levels=tuple(
            LevelPrediction(*(part.bfloat16() for part in level)) for level in output.levels
        ),
        anchors=output.anchors,
    )
    same = GroundingOutput(
        levels=tuple(LevelPrediction(*(part.float() for part in level)) for level in low.levels),
        anchors=output.anchors,
    )
    (expected,) = Postprocessor()(same, [ONE_TOKEN_EACH], [SIZE])
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = Postprocessor()(low, [ONE_TOKEN_EACH], [SIZE])
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert_same(found, expected)


def test_nothing_found_is_an_empty_answer() -> None:
    (found,) = Postprocessor()(single(-9.0, 0.0), [ONE_TOKEN_EACH], [SIZE])
    assert found.boxes.shape == (0, 4)
    assert found.phrase_ids.dtype == torch.int64


def test_best_keeps_ties() -> None:
    scores = torch.tensor([[0.9, 0.7, 0.5, 0.5, 0.1], [0.9, 0.8, -1, -1, -1]])
    assert (best(scores, 3) >= 0).sum(dim=1).tolist() == [4, 2]
    assert (best(scores, 1) >= 0).sum(dim=1).tolist() == [1, 1]
    for limit in (0, -1, 5, 9):
        assert torch.equal(best(scores, limit), scores)


def slow_detections(
    output: GroundingOutput, phrase_tokens: Tensor, size: tuple[int, int], decide: Postprocessor
) -> list[tuple[float, int, list[float]]]:
    """BEHAVIOUR 10 word by word, for one picture and MEAN: score, phrase, box, best first."""
    found: list[tuple[float, int, Tensor]] = []
    for level, anchors in zip(output.levels, output.anchors):
        probabilities = level.token_logits[0].sigmoid()
        boxes = decide.box_coder.decode(level.box_deltas[0], anchors)
        candidates = []
        for anchor, box in enumerate(clip(boxes, size)):
            for phrase, counts in enumerate(phrase_tokens):
                score = (probabilities[anchor] * counts).sum() / counts.sum()
                if score > decide.score_threshold:
                    rank = score * level.centerness[0, anchor].sigmoid()
                    candidates.append((rank.sqrt().item(), phrase, box))
        candidates.sort(key=lambda candidate: -candidate[0])
        found += candidates[: decide.pre_nms_top_n]
    found.sort(key=lambda candidate: -candidate[0])
    kept: list[tuple[float, int, Tensor]] = []
    for score, phrase, box in found:
        rivals = [other for _, rival, other in kept if rival == phrase]
        if not rivals or iou(box[None], torch.stack(rivals), plus_one=True).max() <= 0.6:
            kept.append((score, phrase, box))
    kept = kept[: decide.detections_per_image]
    return [(score, phrase, box.tolist()) for score, phrase, box in kept]


@pytest.mark.parametrize(("top_n", "cap"), [(1000, 100), (20, 100), (50, 9)])
def test_agrees_with_the_definition(top_n: int, cap: int) -> None:
    output = random_output(1, spread=2.0)
    phrases = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
    decide = Postprocessor(pre_nms_top_n=top_n, detections_per_image=cap)
    expected = slow_detections(output, phrases, SIZE, decide)
    (found,) = decide(output, [phrases], [SIZE])
    assert 9 <= len(expected) == len(found)
    torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]))
    assert found.phrase_ids.tolist() == [phrase for _, phrase, _ in expected]
    torch.testing.assert_close(found.boxes, torch.tensor([box for _, _, box in expected]))


def tensors(output: GroundingOutput) -> tuple[GroundingOutput, Tensor, Tensor]:
    """What `select` takes, for two pictures whose prompts have different numbers of phrases."""
    phrases = [ONE_TOKEN_EACH, ONE_TOKEN_EACH[:1]]
    corners = torch.tensor([[79.0, 63, 79, 63], [69.0, 59, 69, 59]])
    return output, reading_table(phrases, "MEAN"), corners


@pytest.mark.parametrize("how", ["MEAN", "MAX", "POWER", "ONEHOT"])
def test_nothing_waits_for_a_value(how: str) -> None:
    """In one graph there is no size that depends on a value, and no value on the host."""
    torch._dynamo.reset()
    assert not torch._dynamo.config.capture_scalar_outputs
    assert not torch._dynamo.config.capture_dynamic_output_shape_ops
    decide = Postprocessor(pre_nms_top_n=20, detections_per_image=5, aggregation=how)
    output, _, corners = tensors(random_output(2))
    table = reading_table([ONE_TOKEN_EACH, ONE_TOKEN_EACH[:1]], how)
    compiled = torch.compile(decide.select, backend="eager", fullgraph=True)
    expected = decide.select(output, table, corners)
    assert torch.equal(compiled(output, table, corners), expected)
    assert expected.shape == (2, 40, 6)
    assert (expected[..., 4] >= 0).sum(dim=1).tolist() == [5, 5]


def test_sizes_follow_from_shapes_alone() -> None:
    """With tensors that have no values at all, every size is known."""
    mode = FakeTensorMode()
    output, table, corners = tree_map_only(Tensor, mode.from_tensor, tensors(random_output(2)))
    with mode, torch.inference_mode():
        reports = Postprocessor(pre_nms_top_n=20).select(output, table, corners)
    assert reports.shape == (2, 40, 6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["MEAN", "MAX", "POWER", "ONEHOT"])
def test_a_gpu_is_not_waited_for(how: str) -> None:
    output = random_output(2)
    on_gpu = tree_map_only(Tensor, Tensor.cuda, output)
    arguments = [ONE_TOKEN_EACH, ONE_TOKEN_EACH[:2]], [SIZE, (60, 70)]
    decide = Postprocessor(aggregation=how)
    torch.cuda.set_sync_debug_mode("error")
    try:
        reports = decide.decide(on_gpu, *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(reports.cpu(), decide.decide(output, *arguments))


def test_reports_may_wait_on_the_device() -> None:
    output = random_output(2)
    arguments = output, [ONE_TOKEN_EACH, ONE_TOKEN_EACH[:2]], [SIZE, (60, 70)]
    decide = Postprocessor(detections_per_image=7)
    reports = decide.decide(*arguments)
    for found, expected in zip(decide.collect(reports, arguments[2]), decide(*arguments)):
        assert_same(found, expected)
        assert found.image_size == expected.image_size
        assert found.boxes.is_contiguous()
        assert len(found) >= 7


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="MEAN, MAX, POWER, ONEHOT, got 'mean'"):
        Postprocessor(aggregation="mean")
    with pytest.raises(ValueError, match=r"score_threshold must lie in \[0, 1\], got 5"):
        Postprocessor(score_threshold=5)
    with pytest.raises(ValueError, match="pre_nms_top_n must be at least 1, got 0"):
        Postprocessor(pre_nms_top_n=0)


def test_disagreeing_counts_are_named() -> None:
    one: Tensor = ONE_TOKEN_EACH
    with pytest.raises(ValueError, match="2 pictures, but 1 phrase matrices and 2 image sizes"):
        Postprocessor()(random_output(2), [one], [SIZE, SIZE])
