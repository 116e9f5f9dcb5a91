"""Hand freed memory back between the parts of a training step, where memory is short."""

from torch import Tensor, nn

from glipkit.modeling.language.features import TextFeatures
from glipkit.modeling.learner import Learner
from glipkit.runtime.allocation import hand_back


def hand_back_between_parts(learner: Learner) -> None:
    """From now on, let training steps on a CPU give back what a part has freed before the next.

    What the parts of a step free stays with the process, in pieces of sizes that the next part does
    not want: half a gibibyte for GLIP-T at 480x640, at the worst moment. So it is handed back after
    the forward pass, and where the backward pass leaves the tower, reaches the text encoder, and is
    about to make the gradient of the whole vocabulary. It costs a tenth of a step. Nothing is
    computed otherwise. Once is enough for a learner.

    Args:
        learner: not yet wrapped. Passes without gradients are left alone.
    """
    learner.register_forward_hook(_after_forward)
    learner.model.pyramid.register_forward_hook(_before_backward)
    learner.model.text_encoder.register_forward_hook(_before_backward)
    learner.model.text_encoder.bert.embeddings.register_forward_hook(_before_backward)


def _after_forward(learner: nn.Module, _inputs: object, losses: dict[str, Tensor]) -> None:
    if any(loss.requires_grad for loss in losses.values()):
        hand_back()


def _before_backward(
    _part: nn.Module, _inputs: object, answer: TextFeatures | tuple[Tensor, ...] | Tensor
) -> None:
    """Hand back when the gradient comes to what this part answered."""
    answered = answer if isinstance(answer, Tensor) else answer[0]
    if answered.requires_grad:
        answered.register_hook(_on_gradient)


def _on_gradient(_gradient: Tensor) -> None:
    hand_back()
