"""SOLVER, TEST, GLIPKNOW: how a model learns, how it is judged, what it is told about classes."""

from yacs.config import CfgNode

SOLVER = CfgNode()  # training only
SOLVER.MAX_EPOCH = 0  # passes over the training data; 0: MAX_ITER decides
SOLVER.MAX_ITER = 40000  # steps, when MAX_EPOCH is 0
SOLVER.IMS_PER_BATCH = 16  # pictures per step, all processes together
SOLVER.USE_AMP = False  # half precision where it is safe
SOLVER.SEED = 0  # of everything random
SOLVER.FIND_UNUSED_PARAMETERS = True  # let processes search for parameters without a gradient

SOLVER.OPTIMIZER = "SGD"  # "SGD" or "ADAMW"; GLIP's files say "ADAMW"
SOLVER.BASE_LR = 0.001  # learning rate
SOLVER.LANG_LR = 1e-5  # learning rate of the text encoder
SOLVER.BACKBONE_BODY_LR_FACTOR = 1.0  # image encoder, relative to BASE_LR
SOLVER.TEXT_LAYER_LR_FACTOR = 1.0  # ours: text layers of the tower, relative to BASE_LR
SOLVER.BIAS_LR_FACTOR = 2.0  # biases, relative to their part's rate
SOLVER.MOMENTUM = 0.9  # of SGD
SOLVER.WEIGHT_DECAY = 0.0005  # of weights
SOLVER.WEIGHT_DECAY_BIAS = 0.0  # of biases
SOLVER.WEIGHT_DECAY_NORM_FACTOR = 1.0  # norms, relative to WEIGHT_DECAY
SOLVER.WEIGHT_DECAY_SCHEDULE = False  # let weight decay fall with the learning rate
SOLVER.WEIGHT_DECAY_SCHEDULE_RATIO = 0.667  # where it falls, as a share of each learning rate step

SOLVER.CLIP_GRADIENTS = CfgNode()  # before each step
SOLVER.CLIP_GRADIENTS.ENABLED = False  # clip at all
SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"  # over all gradients together
SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.0  # largest norm
SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0  # exponent of the norm

SOLVER.WARMUP_METHOD = "linear"  # "linear" or "constant"
SOLVER.WARMUP_ITERS = 500  # steps
SOLVER.WARMUP_FACTOR = 1.0 / 3  # learning rate at the first step, relative to BASE_LR
SOLVER.STEPS = (30000,)  # where the rate falls: steps, or shares of the run when below 1
SOLVER.GAMMA = 0.1  # factor at each of STEPS, and at each automatic step
SOLVER.USE_COSINE = False  # a cosine down to MIN_LR instead of STEPS
SOLVER.COSINE_START = 0.0  # ours: share of the run at the full rate before the cosine begins
SOLVER.MIN_LR = 1e-6  # where the cosine, and automatic steps, end
SOLVER.USE_AUTOSTEP = False  # lower the rate when validation AP stands still, instead of STEPS
SOLVER.STEP_PATIENCE = 5  # evaluations without a better AP before an automatic step
SOLVER.AUTO_TERMINATE_PATIENCE = -1  # evaluations without a better AP before the end; -1: never

SOLVER.MODEL_EMA = 0.0  # decay in [0, 1) of the running mean of the weights; 0: none
SOLVER.USE_EMA_FOR_MONITOR = False  # judge and keep the running mean instead of the weights
SOLVER.CHECKPOINT_PERIOD = 2500  # steps between checkpoints
SOLVER.CHECKPOINT_PER_EPOCH = -1.0  # checkpoints per epoch, before CHECKPOINT_PERIOD; -1: not used
SOLVER.ACCUMULATION = 1  # ours: pieces a process works a step through; same gradients, less memory
SOLVER.PARALLEL = "ddp"  # ours: several processes keep whole copies ("ddp") or shards ("fsdp")
SOLVER.AMP_DTYPE = ""  # ours: "bfloat16" or "float16"; "": bfloat16 on a GPU, none on the CPU
SOLVER.MAX_SKIPPED_STEPS = 10  # ours: steps in a row without a finite loss before the run stops
SOLVER.LOG_PERIOD = 20  # ours: steps between two lines of metrics.jsonl
SOLVER.TUNING_HIGHLEVEL_OVERRIDE = None  # full, linear_prob, language_prompt_v1 .. v4 (DESIGN 6)

TEST = CfgNode()  # evaluation
TEST.EVAL_TASK = ""  # "detection", "grounding", or "": as the data set's name says
TEST.IMS_PER_BATCH = 16  # pictures per step, all processes together; results do not depend on it
TEST.DURING_TRAINING = False  # evaluate at every checkpoint
TEST.SUBSET = -1  # pictures to evaluate, the first of the data set; -1: all
TEST.CHUNKED_EVALUATION = -1  # classes per prompt; -1: as many as fit
TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM = -1  # classes of a prompt at most; -1: any
TEST.STRICT = False  # ours: stop at the first picture that cannot be read, instead of counting it
TEST.PRECISION = "float32"  # ours: of matrix products; or "bfloat16", or "int8" (x86 CPUs only)
TEST.CHUNK_BATCH = 0  # ours: prompts in one pass of a picture; 0: what fits a GPU, one on a CPU
TEST.CUDA_GRAPHS = False  # ours: record the dense parts once per shape; GPUs only
TEST.COMPILE = False  # ours: make kernels by torch.compile first; takes minutes, then runs faster

# Test-time augmentation, of evaluations (docs/augmentation.md).
TEST.USE_MULTISCALE = False  # ask every picture at the sizes of SCALES, and join the answers
TEST.SCALES = (400, 500, 600, 640, 700, 900, 1000, 1100, 1200, 1300, 1400, 1800)  # shorter sides
TEST.RANGES = (  # per scale: sqrt(area) in pixels (from, to) of the boxes taken from it; (): all
    (96, 10000),
    (96, 10000),
    (64, 10000),
    (64, 10000),
    (64, 10000),
    (0, 10000),
    (0, 10000),
    (0, 256),
    (0, 256),
    (0, 192),
    (0, 192),
    (0, 96),
)
TEST.MAX_SIZE = 2500  # pixels, longer side at most
TEST.FLIP = True  # with USE_MULTISCALE: ask the mirrored picture too
TEST.SPECIAL_NMS = "none"  # or "vote", "soft-nms", "soft-nms-gaussian", "soft-vote": how to join
TEST.TH = 0.6  # IoU in [0, 1] above which boxes are joined
TEST.SOFT_NMS_SIGMA = 0.5  # ours: of "soft-nms-gaussian"
TEST.PRE_NMS_TOP_N = 1000  # boxes of a prompt that each view gives to the joining

GLIPKNOW = CfgNode()  # descriptions of classes as part of the prompt
GLIPKNOW.KNOWLEDGE_FILE = ""  # file of descriptions; empty: none
GLIPKNOW.KNOWLEDGE_TYPE = ""  # which descriptions of the file
GLIPKNOW.PARALLEL_LANGUAGE_INPUT = False  # a caption per class, encoded side by side
GLIPKNOW.LAN_FEATURE_AGG_TYPE = "first"  # caption -> class feature: "first" token or "mean"
GLIPKNOW.GPT3_NUM = 5  # sentences per class taken from a language model's answers
GLIPKNOW.WIKI_AND_GPT3 = False  # both kinds of descriptions
GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN = -1  # classes of a training prompt at most; -1: all
