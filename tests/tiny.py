"""A GLIP of a few hundred thousand parameters, for tests that need a whole model."""

from transformers import BertConfig

from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.backbone.fpn import FeaturePyramid
from glipkit.modeling.backbone.swin import SwinTransformer
from glipkit.modeling.fill import fill_model
from glipkit.modeling.glip import GLIP
from glipkit.modeling.head.dyconv import DyConv
from glipkit.modeling.head.fusion import VLFuse
from glipkit.modeling.head.predictor import GroundingPredictor
from glipkit.modeling.head.text_layer import TextLayer
from glipkit.modeling.head.tower import Tower, TowerBlock
from glipkit.modeling.language.bert import BertEncoder
from glipkit.modeling.language.prompt_tuning import PromptOffset

CHANNELS = 32
TEXT_DIM = 32
BLOCKS = 2


def tiny_glip(
    fused: bool = True, seed: int = 0, *, recompute: bool = False, prompt_offset: bool = False
) -> GLIP:
    """In evaluation mode, with weights that depend on `seed` alone; reads BERT's vocabulary."""
    backbone = SwinTransformer(
        embed_dim=16,
        depths=(1, 2, 1, 1),
        num_heads=(1, 2, 2, 4),
        window=4,
        mlp_ratio=2.0,
        recompute=recompute,
    )
    architecture = BertConfig(
        hidden_size=TEXT_DIM, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model = GLIP(
        backbone=backbone,
        pyramid=FeaturePyramid(backbone.out_channels, channels=CHANNELS),
        text_encoder=BertEncoder(architecture, recompute=recompute),
        tower=Tower((_block(fused) for _ in range(BLOCKS)), recompute=recompute),
        predictor=GroundingPredictor(CHANNELS, text_dim=TEXT_DIM),
        anchors=AnchorGenerator(),
        aligns_fused_text=fused,
        prompt_offset=PromptOffset(TEXT_DIM) if prompt_offset else None,
    )
    fill_model(model, seed)
    return model.eval()


def _block(fused: bool) -> TowerBlock:
    dyconv = DyConv(CHANNELS, norm_groups=4)
    if not fused:
        return TowerBlock(None, None, dyconv)
    attention = CrossModalityAttention(CHANNELS, TEXT_DIM, embed_dim=64, num_heads=4)
    fusion = VLFuse(attention, image_dim=CHANNELS, text_dim=TEXT_DIM, num_blocks=BLOCKS)
    return TowerBlock(fusion, TextLayer(TEXT_DIM, num_heads=4, hidden_dim=64), dyconv)
