"""The tower: fuse image and words, let the words settle, let the levels talk; several times."""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from glipkit.layers.recompute import run
from glipkit.modeling.head.dyconv import DyConv
from glipkit.modeling.head.fusion import VLFuse
from glipkit.modeling.head.text_layer import TextLayer
from glipkit.modeling.language.features import TextFeatures


class TowerBlock(nn.Module):
    """One round: fusion, text layer, DyConv (BEHAVIOUR 5).

    Args:
        fusion: exchanges image and text; None for a model whose words never meet the image
            before the predictor (GLIP-T(A)).
        text_layer: updates the text after the exchange; None leaves it.
        dyconv: updates the levels.
    """

    def __init__(self, fusion: VLFuse | None, text_layer: TextLayer | None, dyconv: DyConv) -> None:
        super().__init__()
        self.fusion = fusion
        self.text_layer = text_layer
        self.dyconv = dyconv

    def forward(
        self, levels: tuple[Tensor, ...], text: TextFeatures
    ) -> tuple[tuple[Tensor, ...], TextFeatures]:
        """Levels (B, C, H, W) and text to levels and text of the same shapes."""
        hidden = text.hidden
        if self.fusion is not None:
            levels, hidden = self.fusion(levels, hidden, text.mask)
        if self.text_layer is not None:
            hidden = self.text_layer(hidden, text.mask)
        return self.dyconv(levels), text._replace(hidden=hidden)


class Tower(nn.Module):
    """All rounds, one after the other.

    Args:
        blocks: first to last; at least one.
        recompute: run the blocks again in the backward pass instead of keeping their activations,
            of which the scores of all positions for all tokens are the largest.

    Raises:
        ValueError: there is no block.
    """

    def __init__(self, blocks: Iterable[TowerBlock], *, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.blocks = nn.ModuleList(blocks)
        if not self.blocks:
            raise ValueError("a tower needs at least one block, got none")

    def forward(
        self, levels: tuple[Tensor, ...], text: TextFeatures
    ) -> tuple[tuple[Tensor, ...], TextFeatures]:
        """Run every block.

        Args:
            levels: (B, C, H, W) each, finest first, each half the size of the one before.
            text: what the text encoder says; only `hidden` changes.

        Returns:
            Levels and text of the same shapes.
        """
        for block in self.blocks:
            through = partial(_run_flat, block)
            levels, text = run(block, *levels, *text, recompute=self.recompute, through=through)
        return levels, text


def _run_flat(
    block: TowerBlock, *levels_and_text: Tensor
) -> tuple[tuple[Tensor, ...], TextFeatures]:
    """Run a block on tensors side by side: levels, then the fields of the text."""
    count = len(TextFeatures._fields)
    return block(levels_and_text[:-count], TextFeatures(*levels_and_text[-count:]))
