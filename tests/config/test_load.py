"""Merging: what is accepted, what is refused, and in which words."""

import logging
from pathlib import Path

import pytest
from yacs.config import CfgNode

from glipkit.config import ConfigError, load_config, to_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
GLIP_T = CONFIGS / "pretrain/glip_Swin_T_O365_GoldG.yaml"
GLIP_A = CONFIGS / "pretrain/glip_A_Swin_T_O365.yaml"


@pytest.fixture
def write(tmp_path: Path):
    """Text -> a YAML file."""

    def write(text: str, name: str = "task.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


def merged(*overrides: str, files: tuple = ()) -> CfgNode:
    return load_config([GLIP_T, *files], overrides)


# --- what GLIP's users write -------------------------------------------------------------------


def test_files_in_the_published_style(write) -> None:
    path = write(
        "DATASETS:\n"
        '  TRAIN: ("train", )\n'
        '  TEST: ("val",)\n'
        "  GENERAL_COPY: 16\n"
        '  CAPTION_PROMPT: \'[{"prefix": " ", "name": "hand", "suffix": " of a person"}]\'\n'
        '  OVERRIDE_CATEGORY: \'[{"id": 1, "name": "hand", "supercategory": null}]\'\n'
        "  PREDEFINED_TEXT: odinw/hand/category_description.txt\n"
        "  REGISTER:\n"
        "    val:\n"
        "      ann_file: odinw/hand/val.json\n"
        "      img_dir: odinw/hand\n"
        "    fewshot.v2: {is_train: true, img_dir: a}\n"
        "INPUT:\n"
        "  MIN_SIZE_TRAIN: (800,)\n"
        "SOLVER:\n"
        "  BASE_LR: 1e-4\n"
        "  WARMUP_FACTOR: 1\n"
        "  STEPS: [0.67, 0.89]\n"
        "TEST:\n"
    )
    cfg = merged(files=(path,))
    assert cfg.DATASETS.TRAIN == ("train",)
    assert cfg.DATASETS.TEST == ("val",)
    assert cfg.DATASETS.CAPTION_PROMPT == (
        {"prefix": " ", "name": "hand", "suffix": " of a person"},
    )
    assert cfg.DATASETS.OVERRIDE_CATEGORY == ({"id": 1, "name": "hand", "supercategory": None},)
    assert cfg.DATASETS.REGISTER["val"].ann_file == "odinw/hand/val.json"
    assert cfg.DATASETS.REGISTER["fewshot.v2"].is_train is True
    assert cfg.INPUT.MIN_SIZE_TRAIN == 800
    assert pytest.approx(1e-4) == cfg.SOLVER.BASE_LR
    assert type(cfg.SOLVER.WARMUP_FACTOR) is float
    assert cfg.SOLVER.STEPS == (0.67, 0.89)


def test_line_ends_of_windows_and_a_byte_order_mark(write) -> None:
    path = write("\ufeffTEST:\r\n  SUBSET: 5\r\n")
    assert merged(files=(path,)).TEST.SUBSET == 5


def test_merge_keys_and_anchors_of_yaml(write) -> None:
    path = write(
        "DATASETS:\n"
        "  REGISTER:\n"
        "    a: &a {img_dir: x, ann_file: y}\n"
        "    b:\n"
        "      <<: *a\n"
        "      ann_file: z\n"
    )
    assert merged(files=(path,)).DATASETS.REGISTER.b == {"img_dir": "x", "ann_file": "z"}


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("MODEL.DYHEAD.SCORE_AGG", "MAX", "MAX"),
        ("MODEL.DYHEAD.SCORE_AGG", '"MAX"', "MAX"),
        ("TEST.STRICT", "True", True),
        ("TEST.STRICT", "true", True),
        ("OUTPUT_DIR", "2022", "2022"),
        ("OUTPUT_DIR", "runs/None", "runs/None"),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.STEPS", "[0.5]", (0.5,)),
        ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2", "language_prompt_v2"),
        ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "None", None),
        ("DATASETS.SEPARATION_TOKENS", ". ", ". "),
        ("DATASETS.OVERRIDE_CATEGORY", "None", None),
        ("DATASETS.OVERRIDE_CATEGORY", "[{'id': 3, 'name': 'a'}]", ({"id": 3, "name": "a"},)),
        ("DATASETS.TEST", '("a", "b")', ("a", "b")),
    ],
)
def test_overrides(key: str, word: str, value: object) -> None:
    node = merged(key, word)
    for part in key.split("."):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


def test_the_last_override_wins_over_files() -> None:
    assert merged("TEST.IMS_PER_BATCH", "1", "TEST.IMS_PER_BATCH", "2").TEST.IMS_PER_BATCH == 2


def test_data_sets_can_be_registered_by_override() -> None:
    cfg = merged(
        "DATASETS.REGISTER.my.v1.ann_file", "a.json", "DATASETS.REGISTER.my.v1.img_dir", "b"
    )
    assert cfg.DATASETS.REGISTER["my.v1"] == {"ann_file": "a.json", "img_dir": "b"}


def test_the_result_is_frozen() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        merged().TEST.SUBSET = 1


# DESIGN 6, as typed.
COMMAND_LINES = {
    "coco": "TEST.IMS_PER_BATCH 1 MODEL.DYHEAD.SCORE_AGG MEAN TEST.EVAL_TASK detection "
    "MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS False OUTPUT_DIR out",
    "lvis": "TEST.EVAL_TASK detection TEST.CHUNKED_EVALUATION 40 TEST.IMS_PER_BATCH 4 "
    "TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM 3000 MODEL.RETINANET.DETECTIONS_PER_IMG 300 "
    "MODEL.FCOS.DETECTIONS_PER_IMG 300 MODEL.ATSS.DETECTIONS_PER_IMG 300 "
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG 300",
    "flickr": "TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM 100 TEST.EVAL_TASK grounding "
    "MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS False",
    "odinw": "DATASETS.TRAIN_DATASETNAME_SUFFIX _grounding "
    "DATALOADER.DISTRIBUTE_CHUNK_AMONG_NODE False DATASETS.USE_OVERRIDE_CATEGORY True "
    "DATASETS.USE_CAPTION_PROMPT True",
    "finetune": "MODEL.WEIGHT MODEL/w.pth SOLVER.USE_AMP True TEST.DURING_TRAINING True "
    "TEST.IMS_PER_BATCH 4 SOLVER.IMS_PER_BATCH 4 SOLVER.WEIGHT_DECAY 0.05 TEST.EVAL_TASK detection "
    "DATASETS.TRAIN_DATASETNAME_SUFFIX _grounding MODEL.BACKBONE.FREEZE_CONV_BODY_AT 2 "
    "MODEL.DYHEAD.USE_CHECKPOINT True SOLVER.FIND_UNUSED_PARAMETERS False "
    "SOLVER.TEST_WITH_INFERENCE True SOLVER.USE_AUTOSTEP True DATASETS.USE_OVERRIDE_CATEGORY True "
    "SOLVER.SEED 10 DATASETS.SHUFFLE_SEED 3 DATASETS.USE_CAPTION_PROMPT True "
    "DATASETS.DISABLE_SHUFFLE True SOLVER.STEP_PATIENCE 3 SOLVER.CHECKPOINT_PER_EPOCH 1.0 "
    "SOLVER.AUTO_TERMINATE_PATIENCE 8 SOLVER.MODEL_EMA 0.0 SOLVER.TUNING_HIGHLEVEL_OVERRIDE full",
    "prompt": "SOLVER.TUNING_HIGHLEVEL_OVERRIDE language_prompt_v4 SOLVER.BASE_LR 0.05 "
    "SOLVER.WEIGHT_DECAY 0.25",
}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_command_lines_of_the_design(name: str) -> None:
    words = COMMAND_LINES[name].split()
    cfg = merged(*words)
    for key, word in zip(words[::2], words[1::2]):
        node: object = cfg
        for part in key.split("."):
            node = node.get(part) if isinstance(node, CfgNode) else None
        assert node is None or str(node) == word, key


# --- keys that mean nothing here ----------------------------------------------------------------


def test_unusual_legacy_keys_are_named_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    merged("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "300", "SEARCH.MAX_EPOCH", "9")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "these keys mean nothing here: MODEL.ROI_HEADS.DETECTIONS_PER_IMG, SEARCH.MAX_EPOCH"
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("DATALOADER.DISTRIBUTE_CHUNK_AMONG_NODE", "False"),
        ("SOLVER.TEST_WITH_INFERENCE", "True"),
        ("SEARCH.MAX_EPOCH", "9", "SEARCH.MAX_EPOCH", "20"),
    ],
    ids=str,
)
def test_usual_legacy_keys_are_quiet(words: tuple, caplog: pytest.LogCaptureFixture) -> None:
    merged(*words)
    assert caplog.records == []


def test_legacy_keys_must_be_plausible() -> None:
    with pytest.raises(ConfigError, match=r"SEARCH\.MAX_EPOCH must be an integer, got 'x' \(str\)"):
        merged("SEARCH.MAX_EPOCH", "x")


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        (
            "TEST.IMS_PER_BACH",
            "2",
            r"unknown key TEST\.IMS_PER_BACH; did you mean TEST\.IMS_PER_BATCH\?",
        ),
        ("test.ims_per_batch", "2", r"did you mean TEST\.IMS_PER_BATCH\?"),
        ("MODEL.DYHEAD.FUSE_CONFIG.EARLY_FUSE", "True", r"FUSE_CONFIG\.EARLY_FUSE_ON\?"),
        ("qwertz", "2", r"override qwertz 2: unknown key qwertz$"),
        ("GLIPKNOW", "2", r"GLIPKNOW is a section; keys in it: GLIPKNOW\.GPT3_NUM"),
        ("SEARCH", "2", r"SEARCH is a section; keys in it: none that means anything"),
        (
            "TEST.IMS_PER_BATCH",
            "two",
            r"^override TEST.IMS_PER_BATCH two: TEST.IMS_PER_BATCH must be an integer, got 'two'",
        ),
        ("TEST.IMS_PER_BATCH", "2.5", r"must be an integer, got 2\.5 \(float\)"),
        ("TEST.IMS_PER_BATCH", "True", r"must be an integer, got True \(bool\)"),
        ("TEST.IMS_PER_BATCH", "None", r"must be an integer, got None"),
        ("TEST.IMS_PER_BATCH", "(1, 2)", r"must be an integer, got \(1, 2\) \(tuple\)"),
        ("TEST.STRICT", "1", r"must be True or False, got 1 \(int\)"),
        ("SOLVER.BASE_LR", "fast", r"must be a number, got 'fast'"),
        ("SOLVER.BASE_LR", "1e999", r"must be a number, got inf"),
        (
            "DATASETS.TEST",
            "coco_2017_val",
            r"must be a tuple of names, like \(\"val\",\), got 'coco",
        ),
        ("DATASETS.TEST", '("val")', r"must be a tuple of names"),
        ("DATASETS.TEST", "(1,)", r"DATASETS\.TEST\[0\] must be a string, got 1"),
        ("MODEL.RPN.ANCHOR_SIZES", "(64, 'b')", r"ANCHOR_SIZES\[1\] must be an integer, got 'b'"),
        ("TEST.RANGES", "(1, 2)", r"TEST\.RANGES\[0\] must be a tuple of integers"),
        (
            "DATASETS.OVERRIDE_CATEGORY",
            '[{"id": 1}',
            r"is not valid JSON: .*; got '\[\{\"id\": 1\}'",
        ),
        (
            "DATASETS.OVERRIDE_CATEGORY",
            '[{"id": 1}]',
            r"OVERRIDE_CATEGORY\[0\] has no field 'name'",
        ),
        (
            "DATASETS.OVERRIDE_CATEGORY",
            '[{"id": "1", "name": "a"}]',
            r"\[0\]\.id must be an integer",
        ),
        ("DATASETS.OVERRIDE_CATEGORY", "[]", r"must be a list of records \(id, name\), got \[\]"),
        (
            "DATASETS.OVERRIDE_CATEGORY",
            '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]',
            r"gives the ids \[1\] more than once",
        ),
        ("DATASETS.REGISTER", "x", r"REGISTER must map names of data sets"),
        (
            "DATASETS.REGISTER.val",
            "x",
            r"takes a data set and a field: DATASETS\.REGISTER\.val\.ann_file",
        ),
        (
            "MODEL.RPN_ARCHITECTURE",
            "RPN",
            r"MODEL\.RPN_ARCHITECTURE is 'RPN' \(override .*\); known: 'VLDYHEAD'",
        ),
        ("MODEL.BACKBONE.CONV_BODY", "SWIN-T", r"known: 'SWINT-FPN-RETINANET'"),
        ("MODEL.DYHEAD.SCORE_AGG", "SUM", r"known: 'MEAN', 'MAX', 'POWER', 'ONEHOT'"),
        ("TEST.SPECIAL_NMS", "hard", r"known: 'none', 'vote', 'soft-nms', 'soft-nms-gaussian'"),
        ("TEST.SOFT_NMS_SIGMA", "0", r"TEST\.SOFT_NMS_SIGMA is 0\.0 .*expected above 0"),
        (
            "SOLVER.TUNING_HIGHLEVEL_OVERRIDE",
            "language_prompt_v5",
            r"known: None, 'full', 'linear_prob'",
        ),
        (
            "TEST.IMS_PER_BATCH",
            "0",
            r"TEST\.IMS_PER_BATCH is 0 \(override .*\); expected at least 1",
        ),
        ("TEST.CHUNKED_EVALUATION", "0", r"expected -1 or at least 1"),
        ("MODEL.ATSS.NMS_TH", "60", r"expected between 0 and 1"),
        ("MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN", "1024", r"expected between 3 and 512"),
        ("DATALOADER.NUM_WORKERS", "-1", r"expected at least 0"),
        ("TEST.CHUNK_BATCH", "-1", r"TEST\.CHUNK_BATCH is -1 .*expected at least 0"),
        ("TEST.CHUNK_BATCH", "many", r"TEST\.CHUNK_BATCH must be an integer"),
        ("TEST.PRECISION", "int4", r"known: 'float32', 'bfloat16', 'int8'"),
        ("TEST.CUDA_GRAPHS", "1", r"TEST\.CUDA_GRAPHS must be True or False"),
        ("MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS_COEF", "-0.5", r"expected at least 0"),
    ],
)
def test_refused_overrides(key: str, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merged(key, word)


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (
            ("MODEL.DYHEAD.FUSE_CONFIG.EARLY_FUSE_ON", "False"),
            "EARLY_FUSE_ON",
            "USE_FUSED_FEATURES",
        ),
        (
            ("MODEL.DYHEAD.FUSE_CONFIG.TYPE", "MHA-S"),
            "EARLY_FUSE_ON",
            "FUSE_CONFIG.TYPE is 'MHA-S'",
        ),
        (("MODEL.SWINT.EMBED_DIM", "128"), "EMBED_DIM is 128", "OUT_CHANNELS"),
        (("TEST.CUDA_GRAPHS", "True", "TEST.COMPILE", "True"), "CUDA_GRAPHS is True", "COMPILE"),
        (("TEST.PRECISION", "int8", "TEST.CUDA_GRAPHS", "True"), "is 'int8'", "CUDA_GRAPHS"),
        (("TEST.PRECISION", "int8", "TEST.COMPILE", "True"), "is 'int8'", "COMPILE is True"),
        (("MODEL.SWINT.DEPTHS", "(2, 2)"), "DEPTHS", "NUM_HEADS"),
        (("MODEL.RPN.ANCHOR_STRIDE", "(8,)"), "ANCHOR_SIZES", "ANCHOR_STRIDE is (8,)"),
        (
            ("MODEL.DYHEAD.CHANNELS", "128"),
            "BACKBONE.OUT_CHANNELS is 256",
            "DYHEAD.CHANNELS is 128",
        ),
        (("INPUT.MIN_SIZE_TEST", "1400"), "MIN_SIZE_TEST is 1400", "MAX_SIZE_TEST is 1333"),
        (("MODEL.GROUP_NORM.NUM_GROUPS", "7"), "DYHEAD.CHANNELS", "GROUP_NORM.NUM_GROUPS"),
        (("MODEL.DYHEAD.FUSE_CONFIG.NUM_HEADS", "7"), "EMBED_DIM", "FUSE_CONFIG.NUM_HEADS"),
        (("MODEL.LANGUAGE_BACKBONE.LANG_DIM", "770"), "LANG_DIM", "LANGUAGE_BACKBONE.NUM_HEADS"),
        (("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0"), "ENABLED is True", "CLIP_VALUE is 0.0"),
        (
            (
                *("DATASETS.OVERRIDE_CATEGORY", '[{"id": 1, "name": "a"}]'),
                *("DATASETS.CAPTION_PROMPT", '[{"name": "a"}, {"name": "b"}]'),
            ),
            "has 1 classes",
            "has 2 records",
        ),
    ],
)
def test_contradictions_name_both_keys(words: tuple[str, ...], first: str, second: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(*words)
    assert first in str(caught.value)
    assert second in str(caught.value)


@pytest.mark.parametrize("strides", ["(8, 16)", "(8, 32, 64)", "(4, 8, 16, 32)", "(64, 128)"])
def test_levels_that_no_pyramid_has(strides: str) -> None:
    sizes = str(tuple(range(1, len(strides.split(",")) + 1)))
    with pytest.raises(
        ConfigError, match=r"ANCHOR_STRIDE is .*so known are \(8, 16, 32, 64, 128\)"
    ):
        merged("MODEL.RPN.ANCHOR_STRIDE", strides, "MODEL.RPN.ANCHOR_SIZES", sizes)


def test_a_contradiction_says_which_file_set_the_key(write) -> None:
    path = write("MODEL:\n  SWINT:\n    EMBED_DIM: 128\n")
    with pytest.raises(ConfigError, match=rf"EMBED_DIM is 128 \({path}:3\)"):
        merged(files=(path,))


def test_without_a_model_file_the_message_says_where_to_start() -> None:
    with pytest.raises(ConfigError, match=r"start from a file of configs/pretrain"):
        load_config([CONFIGS / "coco/val.yaml"])


def test_an_unfused_model_needs_no_kind_of_fusion() -> None:
    assert load_config([GLIP_A], ["MODEL.DYHEAD.FUSE_CONFIG.TYPE", ""]).MODEL.DYHEAD.NUM_CONVS == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("TEST.SUBSET",), r"pairs KEY VALUE, but TEST\.SUBSET has no VALUE"),
        (("TEST.SUBSET", "1", "OUTPUT_DIR"), r"got 3 words: TEST\.SUBSET 1 OUTPUT_DIR"),
        (("TEST.SUBSET", "1", "2", "OUTPUT_DIR", "out"), r"but no KEY is called '2'"),
        (("TEST.SUBSET=4",), r"write TEST\.SUBSET 4, not TEST\.SUBSET=4"),
        (("--subset", "4"), r"'--subset' is not known as a flag"),
    ],
)
def test_overrides_come_in_pairs(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merged(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "TEST:\n  IMS_PER_BATCH: two\n",
            r"task\.yaml:2: TEST\.IMS_PER_BATCH must be an integer, got 'two'",
        ),
        (
            "TEST:\n  IMS_PER_BACH: 2\n",
            r"task\.yaml:2: unknown key TEST\.IMS_PER_BACH; did you mean",
        ),
        ("TESTS: {SUBSET: 1}\n", r"task\.yaml:1: unknown key TESTS; did you mean TEST\?"),
        ("TEST: 3\n", r"task\.yaml:1: TEST is a section"),
        ("OUTPUT_DIR: 3\n", r"task\.yaml:1: OUTPUT_DIR must be a string, got 3 \(int\)"),
        (
            "TEST:\n  SUBSET: 1\n  STRICT: True\n  SUBSET: 2\n",
            r"task\.yaml:4: SUBSET stands twice .* line 2",
        ),
        ("TEST: {SUBSET: 1}\nTEST: {STRICT: True}\n", r"task\.yaml:2: TEST stands twice"),
        ("DATASETS:\n  REGISTER:\n    val: {}\n    val: {}\n", r"task\.yaml:4: val stands twice"),
        (
            "DATASETS:\n  REGISTER:\n    val: x.json\n",
            r"REGISTER\.val must be a mapping like \{img_dir",
        ),
        ("DATASETS:\n  REGISTER:\n    val: {a: [1]}\n", r"REGISTER\.val\.a must be a plain value"),
        ("- a\n- b\n", r"task\.yaml must hold KEY: value lines, it holds a sequence"),
        ("just words\n", r"it holds a scalar"),
        ("? [TEST]\n: 1\n", r"task\.yaml:1: a key must be a word, not a sequence"),
        ("# nothing\n", r"task\.yaml is empty"),
        ("", r"task\.yaml is empty"),
        ("TEST:\n  SUBSET: [1\nSOLVER: 2\n", r"task\.yaml:3: not valid YAML"),
        ("TEST:\n\tSUBSET: 1\n", r"task\.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", r"task\.yaml:\d: not valid YAML"),
        ("TEST: &t\n  SUBSET: !!python/name:os.system 1\n", r"task\.yaml:2: not valid YAML"),
        ("OUTPUT_DIR: \x07\n", r"task\.yaml: not valid YAML"),
    ],
)
def test_refused_files(text: str, message: str, write) -> None:
    with pytest.raises(ConfigError, match=message):
        merged(files=(write(text),))


def test_missing_files_folders_and_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"configuration file .*nowhere\.yaml not found"):
        load_config([tmp_path / "nowhere.yaml"])
    with pytest.raises(ConfigError, match="is a folder"):
        load_config([tmp_path])
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match=r"picture\.yaml is not UTF-8 text"):
        load_config([tmp_path / "picture.yaml"])


def test_words_of_any_language_survive_writing(write) -> None:
    path = write('DATASETS:\n  OVERRIDE_CATEGORY: \'[{"id": 1, "name": "狸 🦝, \\"q\\": it"}]\'\n')
    cfg = merged(files=(path,))
    assert cfg.DATASETS.OVERRIDE_CATEGORY[0]["name"] == '狸 🦝, "q": it'
    assert load_config([write(to_yaml(cfg), "again.yaml")]) == cfg
