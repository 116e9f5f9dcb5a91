"""Model and criterion as one module, so that whatever wraps it sees every parameter at work."""

from collections.abc import Sequence

from torch import Tensor, nn

from glipkit.modeling.criterion import Assignment, Criterion
from glipkit.modeling.glip import GLIP
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget


class Learner(nn.Module):
    """A batch in, losses out.

    Wrappers for several processes need one `forward` in which all parameters are used: the model's
    and those of the criterion's heads. Only `model` is what remains after training.

    Args:
        model: predicts.
        criterion: judges.
    """

    def __init__(self, model: GLIP, criterion: Criterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def assign(
        self,
        images: ImageBatch,
        prompts: PromptBatch,
        targets: Sequence[GroundingTarget],
        hidden_words: Tensor | None = None,
    ) -> Assignment:
        """Which anchors should find which box; see `Criterion.assign`. The model is not run."""
        anchors = self.model.anchor_levels(tuple(images.pixels.shape[2:]), images.pixels.device)
        return self.criterion.assign(anchors, targets, prompts, hidden_words)

    def forward(
        self,
        images: ImageBatch,
        prompts: PromptBatch,
        targets: Sequence[GroundingTarget],
        assignment: Assignment,
        normalisers: Tensor,
        hidden_words: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses by name, weighted; their sum is what to minimise. See `Criterion.forward`."""
        output = self.model(images, prompts)
        return self.criterion(output, prompts, targets, assignment, normalisers, hidden_words)
