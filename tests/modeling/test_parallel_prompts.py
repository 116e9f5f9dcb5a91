"""Classes read side by side, against captions encoded one by one and put together by hand."""

import pytest
import torch
from tiny import TEXT_DIM, tiny_glip
from torch import Tensor
from torch.testing import assert_close

from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.glip import GLIP
from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import ParallelPrompt, Phrase, Prompt, TokenizedPrompt

DEFINITIONS = {
    "cat": "cat: a small animal with soft fur, kept as a pet",
    "dog": "dog: an animal that barks",
    "traffic light": "traffic light: red, amber and green lamps that tell cars when to go",
}


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.load("bert-base-uncased")


@pytest.fixture(params=[True, False], ids=["fused", "unfused"])
def model(request: pytest.FixtureRequest) -> GLIP:
    return tiny_glip(fused=request.param, prompt_offset=True).double()


@pytest.fixture
def picture() -> ImageBatch:
    return ImageBatch(torch.randn(1, 3, 96, 96, dtype=torch.float64), ((96, 96),))


def captions(bert: Tokenizer) -> tuple[TokenizedPrompt, ...]:
    return tuple(
        bert(Prompt(caption, (Phrase(name, ((0, len(name)),)),)))
        for name, caption in DEFINITIONS.items()
    )


def detector(model: GLIP, **options: object) -> Detector:
    post = Postprocessor(score_threshold=0.0, pre_nms_top_n=40, detections_per_image=50)
    return Detector(model, post, **options)


@torch.inference_mode()
def by_hand(model: GLIP, prompt: ParallelPrompt) -> TextFeatures:
    """Each caption alone through the text encoder; the place for no object comes last."""
    rows: list[Tensor] = []
    for caption in prompt.captions:
        tokens = model.text_encoder(caption.token_ids[None], caption.token_mask[None]).hidden[0]
        rows.append(tokens[0] if prompt.aggregation == "first" else tokens.mean(dim=0))
    text = torch.stack([*rows, torch.zeros(TEXT_DIM, dtype=torch.float64)])[None]
    text = text + model.prompt_offset.weight[: len(rows) + 1]
    return TextFeatures(text, text, torch.tensor([[True] * len(rows) + [False]]))


@pytest.mark.parametrize("aggregation", ["first", "mean"])
def test_one_vector_of_each_caption_takes_the_place_of_a_token(
    model: GLIP, bert: Tokenizer, picture: ImageBatch, aggregation: str
) -> None:
    prompt = ParallelPrompt(captions(bert), aggregation)
    wanted = by_hand(model, prompt)
    ours = detector(model)
    text = ours._encoded(prompt)
    assert text.mask.tolist() == wanted.mask.tolist()
    assert_close(text.hidden, wanted.hidden, rtol=0, atol=1e-12)
    assert_close(text.embedded, wanted.embedded, rtol=0, atol=1e-12)

    with torch.inference_mode():
        output = model.ground(model.encode_image(picture.pixels), wanted)
        (expected,) = ours.postprocessor(output, [torch.eye(3, 4, dtype=torch.int64)], [(96, 96)])
    (found,) = ours(picture, [prompt], [(96, 96)])
    assert len(found) > 9
    assert set(found.phrase_ids.tolist()) == {0, 1, 2}
    assert_close(found.scores, expected.scores, rtol=0, atol=1e-6)
    assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-4)
    assert found.phrase_ids.tolist() == expected.phrase_ids.tolist()


def test_padding_of_a_caption_and_neighbours_in_a_batch_do_not_matter(
    model: GLIP, bert: Tokenizer
) -> None:
    short, long = captions(bert)[1:]
    both = detector(model)._encoded(ParallelPrompt((short.padded(64), long), "mean"))
    alone = detector(model)._encoded(ParallelPrompt((short,), "mean"))
    assert_close(both.hidden[:, 0], alone.hidden[:, 0], rtol=0, atol=1e-12)


def test_text_layers_run_over_the_classes_where_text_fuses(
    model: GLIP, bert: Tokenizer, picture: ImageBatch
) -> None:
    cat, dog, light = captions(bert)
    with torch.inference_mode():
        levels = model.encode_image(picture.pixels)
        scores = [
            model.ground(levels, by_hand(model, ParallelPrompt(asked, "first")))
            .levels[0]
            .token_logits[..., 0]
            for asked in ((cat, dog), (cat, light))
        ]
    # Only a text that has read the other classes tells a cat from a cat beside something else.
    assert torch.equal(*scores) != model.aligns_fused_text


def test_more_captions_than_are_encoded_at_once(
    model: GLIP, bert: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = ParallelPrompt(captions(bert) * 2, "mean")
    together = detector(model)._encoded(prompt)
    monkeypatch.setattr("glipkit.modeling.multi_prompt._CAPTIONS_AT_ONCE", 4)
    in_parts = detector(model)._encoded(prompt)
    assert in_parts.hidden.shape[1] == 7
    assert_close(in_parts.hidden, together.hidden, rtol=0, atol=1e-12)


def test_vectors_are_remembered_by_words_and_aggregation(bert: Tokenizer) -> None:
    ours = detector(tiny_glip())
    calls = []
    encode = ours.model.encode_classes
    ours.model.encode_classes = lambda *args: calls.append(1) or encode(*args)
    cat, dog, light = captions(bert)
    picture = ImageBatch(torch.randn(1, 3, 64, 64), ((64, 64),))
    for prompt in (
        *(ParallelPrompt((cat, dog), "mean"), ParallelPrompt((cat.padded(80), dog), "mean")),
        *(ParallelPrompt((cat, dog), "first"), ParallelPrompt((cat, light), "mean")),
    ):
        ours(picture, [prompt], [(64, 64)])
    assert len(calls) == 3
    with torch.no_grad():
        ours.model.text_encoder.bert.embeddings.word_embeddings.weight[1000:3000] += 1
    ours(picture, [ParallelPrompt((cat, dog), "mean")], [(64, 64)])
    assert len(calls) == 4


def test_chunks_of_classes_and_captions_are_asked_beside_each_other(bert: Tokenizer) -> None:
    ours = detector(tiny_glip())
    picture = ImageBatch(torch.randn(1, 3, 64, 64), ((64, 64),))
    cat, dog, light = captions(bert)
    prompts = [ParallelPrompt((cat, dog), "first"), cat, ParallelPrompt((light,), "first")]
    (found,) = ours(picture, prompts, [(64, 64)])
    together = Detector(ours.model, ours.postprocessor, chunk_batch=3)
    (same,) = together(picture, prompts, [(64, 64)])
    assert set(found.phrase_ids.tolist()) == {0, 1, 2, 3}
    assert_close(same.scores, found.scores, rtol=1e-4, atol=1e-5)
    (last,) = ours(picture, prompts[2:], [(64, 64)])
    assert_close(found.scores[found.phrase_ids == 3], last.scores)


def test_a_prompt_without_classes_or_with_another_aggregation_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(ValueError, match="at least one class"):
        ParallelPrompt((), "first")
    with pytest.raises(ValueError, match="first, mean, got 'last'"):
        ParallelPrompt(captions(bert), "last")
