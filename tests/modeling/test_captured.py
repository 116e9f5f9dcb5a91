import pytest
import torch
from tiny import TEXT_DIM, tiny_glip
from torch import Tensor, nn

from glipkit.modeling.captured import Captured, CapturedModel, Recording, compile_dense
from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.modeling.language.features import TextFeatures

PIXELS = torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96)


class Recorder:
    """Captures on the CPU: what was recorded is run again, from and into the same memory."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, run, device) -> Recording:
        self.recorded += 1
        outputs = run()

        def replay() -> None:
            self.replayed += 1
            for place, value in zip(tensors(outputs), tensors(run())):
                place.copy_(value)

        return Recording(replay, outputs)


def tensors(values) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values or () for tensor in tensors(value)]


def text_features(length: int = 8) -> TextFeatures:
    hidden = torch.linspace(-1, 1, length * TEXT_DIM).reshape(1, length, TEXT_DIM)
    return TextFeatures(hidden, hidden / 2, torch.ones(1, length, dtype=torch.bool))


def doubled(**options) -> tuple[Captured, nn.Linear, Recorder]:
    recorder = Recorder()
    layer = nn.Linear(2, 2).eval()
    return Captured(layer, layer, capture=recorder, **options), layer, recorder


@torch.inference_mode()
def test_answers_are_the_models() -> None:
    model = tiny_glip()
    recorder = Recorder()
    captured = CapturedModel(model, capture=recorder)
    for sign in (1, -1):  # recorded, then replayed
        levels = captured.encode_image(sign * PIXELS)
        output = captured.ground(levels, text_features())
        expected_levels = model.encode_image(sign * PIXELS)
        expected = model.ground(expected_levels, text_features())
        assert isinstance(output, GroundingOutput)
        assert isinstance(output.text, TextFeatures)
        torch.testing.assert_close(tensors(levels), tensors(expected_levels))
        torch.testing.assert_close(tensors(output), tensors(expected))
    assert (recorder.recorded, recorder.replayed) == (2, 4)


@torch.no_grad()
def test_every_shape_type_and_autocast_has_its_own() -> None:
    captured, _, recorder = doubled()
    captured(torch.ones(3, 2))
    captured(torch.zeros(3, 2))
    assert recorder.recorded == 1
    captured(torch.ones(4, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert captured(torch.ones(3, 2)).dtype == torch.bfloat16
        captured(torch.ones(3, 2))
    assert captured(torch.ones(3, 2)).dtype == torch.float32
    assert recorder.recorded == 3 == len(captured)


@torch.no_grad()
def test_an_answer_outlives_the_next_call() -> None:
    captured, layer, _ = doubled()
    first = captured(torch.ones(1, 2))
    captured(torch.full((1, 2), 5.0))
    torch.testing.assert_close(first, layer(torch.ones(1, 2)))


@torch.no_grad()
def test_the_least_recently_used_shape_goes() -> None:
    captured, _, recorder = doubled(max_graphs=2)
    for rows in (1, 2, 1, 3):
        captured(torch.ones(rows, 2))
    assert len(captured) == 2
    assert recorder.recorded == 3
    captured(torch.ones(1, 2))
    assert recorder.recorded == 3
    captured(torch.ones(2, 2))
    assert recorder.recorded == 4
    captured.forget()
    assert len(captured) == 0


@torch.no_grad()
@pytest.mark.parametrize("how", ["written", "replaced", "loaded", "assigned"])
def test_changed_weights_are_never_replayed(how: str) -> None:
    captured, layer, _ = doubled()
    before = captured(torch.ones(1, 2))
    if how == "written":
        layer.weight.add_(1)
    elif how == "replaced":
        layer.weight = nn.Parameter(layer.weight + 1)
    else:
        state = {name: value + 1 for name, value in layer.state_dict().items()}
        layer.load_state_dict(state, assign=how == "assigned")
    after = captured(torch.ones(1, 2))
    torch.testing.assert_close(after, layer(torch.ones(1, 2)))
    assert not torch.allclose(before, after)


def test_what_cannot_be_recorded_is_refused() -> None:
    captured, layer, _ = doubled()
    with pytest.raises(RuntimeError, match=r"no gradients; call it under torch.inference_mode"):
        captured(torch.ones(1, 2))
    layer.train()
    with torch.no_grad(), pytest.raises(ValueError, match="in training mode"):
        captured(torch.ones(1, 2))
    layer.eval()
    with torch.no_grad(), pytest.raises(TypeError, match="at least one tensor, got none"):
        captured()
    with torch.no_grad(), pytest.raises(TypeError, match=r"tensors and tuples of them, got .*int"):
        captured(3)
    with pytest.raises(ValueError, match="max_graphs must be at least 1, got 0"):
        doubled(max_graphs=0)


@torch.inference_mode()
def test_a_cpu_has_no_graphs() -> None:
    captured = CapturedModel(tiny_glip())
    with pytest.raises(
        RuntimeError, match=r"CUDA device, and the inputs are on cpu; .*CUDA_GRAPHS"
    ):
        captured.encode_image(PIXELS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("autocast", [False, True])
@torch.inference_mode()
def test_cuda_graphs_answer_as_the_model(autocast: bool) -> None:
    model = tiny_glip().cuda()
    captured = CapturedModel(model, max_graphs=2)
    text = TextFeatures(*(part.cuda() for part in text_features()))
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        for width in (64, 96, 128, 64, 32, 96):  # caches of positions and masks turn over, too
            for scale in (1, -1):
                pixels = scale * PIXELS[..., :1].expand(1, 3, 64, width).cuda()
                levels = captured.encode_image(pixels)
                output = captured.ground(levels, text)
                torch.cuda.empty_cache()
                expected_levels = model.encode_image(pixels)
                expected = model.ground(expected_levels, text)
                torch.testing.assert_close(levels, expected_levels)
                torch.testing.assert_close(tensors(output), tensors(expected))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_the_model_waits_for_nothing_on_a_gpu() -> None:
    model = tiny_glip().cuda()
    text = TextFeatures(*(part.cuda() for part in text_features()))
    pixels = PIXELS.cuda()
    model.ground(model.encode_image(pixels), text)  # fills caches of positions
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.ground(model.encode_image(pixels), text)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def run_dense(model: GLIP, width: int, length: int) -> list[Tensor]:
    with torch.inference_mode():
        pixels = PIXELS[..., :1].expand(1, 3, 64, width).contiguous()
        output = model.ground(model.encode_image(pixels), text_features(length))
    return tensors(output)


@pytest.mark.slow
def test_the_dense_parts_are_one_graph_each() -> None:
    """No break, hence no value that the host waits for."""
    torch._dynamo.reset()
    plain, compiled = tiny_glip(), compile_dense(tiny_glip(), backend="eager")
    for width, length in ((96, 8), (128, 16)):
        torch.testing.assert_close(
            run_dense(compiled, width, length),
            run_dense(plain, width, length),
            rtol=1e-4,
            atol=1e-4,
        )
