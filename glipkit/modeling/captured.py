"""Runs the dense parts of the model without their host work: as CUDA graphs, or compiled.

A forward pass of GLIP is some two thousand small launches; a fast GPU waits for the host between
them. A CUDA graph records the launches of one shape and repeats them in one. `torch.compile` makes
fewer and larger kernels of them. Either stands in for `GLIP.encode_image` and `GLIP.ground`.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from glipkit.modeling.glip import GLIP, GroundingOutput
from glipkit.modeling.language.features import TextFeatures

_COMPILED_SIZES = 64


class Recording(NamedTuple):
    """What a capture leaves behind."""

    replay: Callable[[], None]  # computes again, from the static inputs into `outputs`
    outputs: Any  # tensors, or nested tuples of them: overwritten by every replay
    kept: tuple[object, ...] = ()  # what has to live as long as `replay` may be called


Capture = Callable[[Callable[[], Any], torch.device], Recording]


class Captured:
    """A function of tensors that is recorded once for each shape, and replayed from then on.

    The key is everything the launches depend on: shapes, dtypes and devices of the inputs, and
    autocast. Shapes are taken as they come: rounding a picture's size up would change its boxes
    (DESIGN 3), and padded sizes and text lengths are multiples of 32 and 8 already.

    Inputs are copied into buffers of the recording, and answers are copied out of it, so that they
    stay what they are when the next picture comes. What the function reads besides is read anew by
    each replay where it lay: weights written in place count at once. All recordings are made anew
    when a parameter or a buffer of `module` was moved, replaced or written (something may have been
    derived from it).

    Args:
        function: tensors, or nested tuples of them, to the same. It may not look at values: no
            `.item()`, no boolean index.
        module: whose weights `function` reads; it must be in evaluation mode.
        max_graphs: how many shapes are kept, the last used ones. Each holds its own buffers.
        capture: makes a recording; another one is for tests.

    Raises:
        ValueError: `max_graphs` is below 1.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        module: nn.Module,
        *,
        max_graphs: int = 8,
        capture: Capture | None = None,
    ) -> None:
        if max_graphs < 1:
            raise ValueError(f"max_graphs must be at least 1, got {max_graphs}")
        self.function = function
        self.module = module
        self.max_graphs = max_graphs
        self.capture = capture or capture_cuda_graph
        self._graphs: OrderedDict[Hashable, tuple[Any, Recording]] = OrderedDict()
        self._stamp: tuple[object, ...] = ()

    def __call__(self, *inputs: Any) -> Any:
        """What `function` returns, in memory of its own.

        Raises:
            RuntimeError: the inputs are not on a CUDA device, or gradients are recorded.
            ValueError: the module is in training mode.
        """
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a captured function records no gradients; call it under torch.inference_mode() "
                "or torch.no_grad()"
            )
        if self.module.training:
            raise ValueError(
                "a captured function repeats what was recorded, also a dropout's choice, but the "
                "model is in training mode; call model.eval() first"
            )
        self._forget_if_weights_changed()
        key = _key(inputs)
        if key not in self._graphs:
            while len(self._graphs) >= self.max_graphs:
                self._graphs.popitem(last=False)  # first: its memory serves the new one
            self._graphs[key] = self._record(inputs)
        self._graphs.move_to_end(key)
        static, recording = self._graphs[key]
        for place, value in zip(_leaves(static), _leaves(inputs)):
            place.copy_(value, non_blocking=True)
        recording.replay()
        return _mapped(recording.outputs, Tensor.clone)

    def __len__(self) -> int:
        """How many shapes are recorded."""
        return len(self._graphs)

    def forget(self) -> None:
        """Drop all recordings and free their memory."""
        self._graphs.clear()

    def _record(self, inputs: tuple[Any, ...]) -> tuple[Any, Recording]:
        with torch.inference_mode(False):  # buffers that may be written in any mode
            static = _mapped(inputs, lambda value: torch.empty_like(value).copy_(value))
        cached = torch.is_autocast_cache_enabled()
        # A weight that autocast cast before would be read from memory that is freed soon.
        torch.set_autocast_cache_enabled(False)
        try:
            return static, self.capture(lambda: self.function(*static), _leaves(static)[0].device)
        finally:
            torch.set_autocast_cache_enabled(cached)

    def _forget_if_weights_changed(self) -> None:
        tensors = [*self.module.parameters(), *self.module.buffers()]
        stamp = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        if stamp != self._stamp:
            self.forget()
        self._stamp = stamp


class CapturedModel:
    """`GLIP.encode_image` and `GLIP.ground` as CUDA graphs: same arguments, same answers.

    To be called in their place, under `torch.inference_mode()`, inside or outside of autocast.
    `encode_text` is not recorded: its answers are remembered by whoever asks.

    Args:
        model: on a CUDA device, in evaluation mode.
        max_graphs: how many shapes of each of the two are kept; see `Captured`.
        capture: makes a recording; another one is for tests.
    """

    def __init__(self, model: GLIP, *, max_graphs: int = 8, capture: Capture | None = None) -> None:
        options = {"max_graphs": max_graphs, "capture": capture}
        self._encode_image = Captured(model.encode_image, model, **options)
        self._ground = Captured(model.ground, model, **options)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """As `GLIP.encode_image`; errors as `Captured.__call__`."""
        return self._encode_image(pixels)

    def ground(self, levels: tuple[Tensor, ...], text: TextFeatures) -> GroundingOutput:
        """As `GLIP.ground`; errors as `Captured.__call__`."""
        return self._ground(levels, text)

    def forget(self) -> None:
        """Drop all recordings and free their memory."""
        self._encode_image.forget()
        self._ground.forget()


def capture_cuda_graph(run: Callable[[], Any], device: torch.device) -> Recording:
    """Record what `run` launches.

    It runs twice before, on a stream of its own: that fills caches and picks algorithms, which a
    capture could not. Other threads, such as one that pins memory, may go on meanwhile.

    Args:
        run: reads buffers that stay where they are.
        device: where they are.

    Raises:
        RuntimeError: that is no CUDA device.
    """
    if device.type != "cuda":
        raise RuntimeError(
            f"CUDA graphs record what runs on a CUDA device, and the inputs are on {device}; move "
            "the model and the pictures to a GPU, or turn TEST.CUDA_GRAPHS off"
        )
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
            with _ReadFromOutside() as outside:
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = run()
    return Recording(graph.replay, outputs, (graph, *outside.storages))


class _ReadFromOutside(TorchDispatchMode):
    """Collects the memory that is read and was not made inside.

    Anchors, window orders and shift masks are remembered in caches that forget. A graph would go on
    reading where they were, so it has to hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._born: set[int] = set()
        self._read: dict[int, torch.UntypedStorage] = {}

    @property
    def storages(self) -> Iterable[torch.UntypedStorage]:
        return self._read.values()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {}
        for value in _tensors_in((args, kwargs or {})):
            storage = value.untyped_storage()
            given[storage._cdata] = storage
        self._read |= {name: s for name, s in given.items() if name not in self._born}
        answer = func(*args, **(kwargs or {}))
        made = {value.untyped_storage()._cdata for value in _tensors_in(answer)}
        self._born |= made - given.keys() - self._read.keys()
        return answer


def compile_dense(model: GLIP, *, backend: str = "inductor") -> GLIP:
    """Let `torch.compile` make kernels of the model's dense parts, in place.

    `encode_image` and `ground` become one graph each, without breaks, for every size of picture and
    length of text anew: the first call of each takes a minute or more, and up to 64 are kept.
    (Sizes are no variables, because inductor of torch 2.14 fails on them.) Not to be recorded by
    `CapturedModel` besides: what a compiled kernel reads cannot be seen from outside.

    Args:
        model: in evaluation mode.
        backend: of `torch.compile`.

    Returns:
        The same model.
    """
    settings = torch._dynamo.config  # beyond the limit, which is 8, a whole graph is refused
    settings.recompile_limit = max(settings.recompile_limit, _COMPILED_SIZES)
    options = {"fullgraph": True, "dynamic": False, "backend": backend}
    model.encode_image = torch.compile(model.encode_image, **options)
    model.ground = torch.compile(model.ground, **options)
    return model


def _key(inputs: tuple[Any, ...]) -> Hashable:
    """What decides whether a recording fits."""
    leaves = _leaves(inputs)
    if not leaves:
        raise TypeError("a captured function needs at least one tensor, got none")
    device = leaves[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return autocast, _mapped(inputs, lambda value: (value.shape, value.dtype, value.device))


def _leaves(values: Any) -> list[Tensor]:
    """The tensors of nested tuples, in order."""
    found: list[Tensor] = []
    _mapped(values, found.append)
    return found


def _mapped(values: Any, change: Callable[[Tensor], Any]) -> Any:
    """Nested tuples, named ones too, with every tensor changed."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, tuple):
        parts = [_mapped(value, change) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    if values is None:
        return None
    raise TypeError(
        f"a captured function takes and returns tensors and tuples of them, got {type(values)}"
    )


def _tensors_in(values: Any) -> Iterable[Tensor]:
    """The tensors of whatever an operator takes or returns."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors_in(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors_in(value)
