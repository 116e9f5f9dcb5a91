"""`--report` of tools/test_grounding_net.py, and the same report from the folder it leaves."""

import sys
from pathlib import Path

import drawn
import pytest
import yaml

from glipkit import evaluation_report
from glipkit.config.load import load_config
from glipkit.engine.checkpoint import save_weights
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tools"))
import test_grounding_net  # noqa: E402

CONFIG = REPOSITORY / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
TINY = [
    *("MODEL.SWINT.EMBED_DIM", "16", "MODEL.SWINT.OUT_CHANNELS", "(16, 32, 64, 128)"),
    *("MODEL.SWINT.DEPTHS", "(1, 1, 1, 1)", "MODEL.SWINT.NUM_HEADS", "(1, 2, 2, 4)"),
    *("MODEL.BACKBONE.OUT_CHANNELS", "32", "MODEL.DYHEAD.CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_CONVS", "1", "MODEL.LANGUAGE_BACKBONE.LANG_DIM", "32"),
    *("MODEL.LANGUAGE_BACKBONE.NUM_LAYERS", "1", "MODEL.LANGUAGE_BACKBONE.NUM_HEADS", "4"),
    *("MODEL.LANGUAGE_BACKBONE.MLP_DIM", "64", "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM", "64"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "DATALOADER.NUM_WORKERS", "0"),
]


def test_report_beside_the_results_and_again_later(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = drawn.draw(tmp_path, num_images=6)
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    task = {"DATASETS": {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)'}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    model = build_model(load_config([CONFIG], TINY))
    fill_model(model, seed=0)
    save_weights(model, tmp_path / "tiny.pth", layout="published")
    argv = ["--config-file", str(CONFIG), "--task_config", str(tmp_path / "task.yaml")]
    argv += ["--weight", str(tmp_path / "tiny.pth"), "--report", "--device", "cpu"]
    assert test_grounding_net.main([*argv, *TINY, "OUTPUT_DIR", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "task" / "drawn"
    first = (folder / "report.html").read_text()
    assert "drawn: evaluation report" in first
    (folder / "report.html").unlink()
    assert evaluation_report.main([str(folder)]) == 0
    assert (folder / "report.html").read_text() == first
    assert "written to" in capsys.readouterr().out
    argv.remove("--report")
    for more, is_kept in (
        (["MODEL.ATSS.NMS_TH", "0.6"], True),
        (["MODEL.ATSS.NMS_TH", "0.3"], False),
    ):
        line = [*argv, *TINY, *more, "OUTPUT_DIR", str(tmp_path / "out")]
        assert test_grounding_net.main(line) == 0
        assert (folder / "report.html").exists() == is_kept
