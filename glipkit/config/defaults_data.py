"""INPUT, AUGMENT, DATASETS, DATALOADER: pictures, words, and how they reach the model."""

from yacs.config import CfgNode

INPUT = CfgNode()  # sizes in pixels
INPUT.MIN_SIZE_TRAIN = 800  # shorter side; several: AUGMENT.MULT_MIN_SIZE_TRAIN
INPUT.MAX_SIZE_TRAIN = 1333  # longer side at most
INPUT.MIN_SIZE_TEST = 800  # shorter side
INPUT.MAX_SIZE_TEST = 1333  # longer side at most
INPUT.PIXEL_MEAN = (102.9801, 115.9465, 122.7717)  # subtracted per channel, in the model's order
INPUT.PIXEL_STD = (1.0, 1.0, 1.0)  # divided by per channel, in the model's order
INPUT.TO_BGR255 = True  # the model reads blue, green, red in 0..255; False: RGB in 0..1
INPUT.FORMAT = ""  # another order or range by name, instead of TO_BGR255; not built here
INPUT.FIX_RES = False  # squeeze every picture to a square; not built here

AUGMENT = CfgNode()  # training only
AUGMENT.MULT_MIN_SIZE_TRAIN = ()  # shorter sides in pixels, one drawn per picture; empty: INPUT's
AUGMENT.FLIP_PROB_TRAIN = 0.5  # probability of a left-right flip
AUGMENT.VERTICAL_FLIP_PROB_TRAIN = 0.0  # probability of an upside-down flip
AUGMENT.BRIGHTNESS = 0.0  # jitter, greatest relative change
AUGMENT.CONTRAST = 0.0  # jitter, greatest relative change
AUGMENT.SATURATION = 0.0  # jitter, greatest relative change
AUGMENT.HUE = 0.0  # jitter, greatest change as a share of the colour circle

DATASETS = CfgNode()  # what is seen and said
DATASETS.TRAIN = ()  # names of the data sets to learn from: published, or of REGISTER
DATASETS.TEST = ()  # names of the data sets to evaluate on: published, or of REGISTER
DATASETS.REGISTER = CfgNode(new_allowed=True)  # name -> {img_dir, ann_file, ...} below the root
DATASETS.TRAIN_DATASETNAME_SUFFIX = ""  # appended to names of TRAIN; "_grounding" changes nothing
DATASETS.TEST_DATASETNAME_SUFFIX = ""  # appended to names of TEST

# Words.
DATASETS.SEPARATION_TOKENS = " "  # between two class names of a prompt; GLIP's files say ". "
DATASETS.USE_OVERRIDE_CATEGORY = False  # names from OVERRIDE_CATEGORY, not the annotation file
DATASETS.OVERRIDE_CATEGORY = None  # records {id, name}; a JSON string in GLIP's files
DATASETS.USE_CAPTION_PROMPT = False  # word classes as CAPTION_PROMPT says, where it is given
DATASETS.CAPTION_PROMPT = None  # a record {prefix, name, suffix} per class, in order of the ids
DATASETS.USE_SUPRESS_QUERY = False  # add words that no box should answer; not built here
DATASETS.ADD_DET_PROMPT = False  # begin detection prompts with "object detection : "
DATASETS.ADD_DET_PROMPT_ADVANCED = False  # "object detection query : " when all or none are there
DATASETS.ONE_HOT = False  # classes as positions instead of words; not built here

# Detection data as prompts (training).
DATASETS.DISABLE_SHUFFLE = False  # all classes in order of their ids, nothing drawn
DATASETS.RANDOM_SAMPLE_NEG = -1  # absent classes in a prompt at most; -1: all
DATASETS.CONTROL_PROB = ()  # probabilities of (one absent, none, all, present dropped); (): all
DATASETS.SPECIAL_SAFEGUARD_FOR_COCO_GROUNDING = False  # screen COCO-form prompts by length too
DATASETS.DISABLE_CLIP_TO_IMAGE = False  # leave boxes that reach beyond the picture as they are
DATASETS.USE_CROWD = False  # learn from boxes marked as crowd too

# How much of what (training).
DATASETS.FEW_SHOT = 0  # boxes per class, at least, in the pictures that are drawn; 0: all
DATASETS.SHUFFLE_SEED = 0  # which pictures few-shot draws
DATASETS.FLIP_SAFE = True  # ours: never mirror a picture whose caption says left or right
DATASETS.MAX_BOX = -1  # boxes of a picture at most; -1: all
DATASETS.GENERAL_COPY = -1  # times an epoch shows each training set that has no key below; -1: 1
DATASETS.COCO_COPY = 1  # times an epoch shows COCO
DATASETS.LVIS_COPY = 1  # times an epoch shows LVIS
DATASETS.FLICKR_COPY = 1  # times an epoch shows Flickr30K
DATASETS.MIXED_COPY = 1  # times an epoch shows the mixed grounding data
DATASETS.OBJECT365_COPY = 1  # times an epoch shows Objects365
DATASETS.VG_COPY = 1  # times an epoch shows Visual Genome
DATASETS.OI_COPY = 1  # times an epoch shows Open Images
DATASETS.IN_COPY = 1  # times an epoch shows ImageNet boxes

# Judging.
DATASETS.LVIS_USE_NORMAL_AP = False  # LVIS with 300 boxes per picture instead of "fixed AP"
DATASETS.FLICKR_GT_TYPE = "separate"  # truth of a Flickr phrase: "separate" boxes or one "merged"

DATALOADER = CfgNode()  # batches
DATALOADER.NUM_WORKERS = 4  # processes that read pictures, fewer where cores lack; 0: the main one
DATALOADER.SIZE_DIVISIBILITY = 0  # pixels; padded sides are multiples of it; GLIP's files say 32
DATALOADER.ASPECT_RATIO_GROUPING = True  # tall pictures with tall ones in training batches
DATALOADER.IN_FILE_ORDER = False  # train in the order of the files, for ones that grow harder
