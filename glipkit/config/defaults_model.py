"""MODEL: the network, how it is frozen, and what becomes of its predictions."""

from yacs.config import CfgNode

MODEL = CfgNode()
MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # GLIP's files say "GeneralizedVLRCNN": the same here
MODEL.RPN_ARCHITECTURE = "RPN"  # the head; "VLDYHEAD" is GLIP's, and the only one here
MODEL.RPN_ONLY = False  # one stage, without a box head on regions; GLIP's files say True
MODEL.DEVICE = "cuda"  # "cuda", "cuda:1" or "cpu"; "cuda" means the CPU where there is no GPU
MODEL.WEIGHT = ""  # a GLIP, or a Swin to pre-train from: path, or name in MODEL/; empty: random
MODEL.LINEAR_PROB = False  # tuning: train the projections of the head and nothing else

MODEL.BACKBONE = CfgNode()  # image encoder and pyramid
MODEL.BACKBONE.CONV_BODY = "R-50-C4"  # kind; "SWINT-FPN-RETINANET" is GLIP's, the only one here
MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # stages without gradient, patch embedding first; -1: none
MODEL.BACKBONE.FREEZE = False  # the whole image encoder without gradient, in evaluation mode
MODEL.BACKBONE.OUT_CHANNELS = 1024  # channels of every pyramid level; GLIP uses 256
MODEL.BACKBONE.USE_CHECKPOINT = False  # recompute activations of the encoder in the backward pass

MODEL.SWINT = CfgNode()  # Swin transformer; sequences name its four stages
MODEL.SWINT.EMBED_DIM = 96  # channels of the first stage; each later stage doubles them
MODEL.SWINT.OUT_CHANNELS = (96, 192, 384, 768)  # channels of the stages, follows from EMBED_DIM
MODEL.SWINT.DEPTHS = (2, 2, 6, 2)  # blocks
MODEL.SWINT.NUM_HEADS = (3, 6, 12, 24)  # attention heads
MODEL.SWINT.WINDOW_SIZE = 7  # side of an attention window, in tokens
MODEL.SWINT.MLP_RATIO = 4.0  # hidden channels of the MLPs, relative to their input
MODEL.SWINT.DROP_PATH_RATE = 0.2  # probability at the last block, from 0 at the first; training
MODEL.SWINT.APE = False  # absolute position embedding; not built here
MODEL.SWINT.VERSION = "v1"  # "v1" is the only one here
MODEL.SWINT.OUT_NORM = True  # a LayerNorm on every map that is handed to the pyramid
MODEL.SWINT.LAYER_SCALE = 0  # initial value of learned residual scales, 0: none; not built here

MODEL.FPN = CfgNode()  # feature pyramid P3..P7
MODEL.FPN.FREEZE = False  # without gradient, in evaluation mode
MODEL.FPN.DROP_BLOCK = True  # drop square blocks of P3 and P4 in training (BEHAVIOUR 3)
MODEL.FPN.DROP_PROB = 0.3  # probability in [0, 1] that a position starts no survivor
MODEL.FPN.DROP_SIZE = 3  # side of a dropped block, in positions
MODEL.FPN.USE_GN = False  # GroupNorm after each convolution; not built here
MODEL.FPN.USE_RELU = False  # ReLU after each convolution; not built here
MODEL.FPN.USE_DYRELU = False  # DyReLU after each convolution; not built here
MODEL.FPN.USE_SPP = False  # spatial pyramid pooling; not built here
MODEL.FPN.USE_PAN = False  # a second, bottom-up path; not built here
MODEL.FPN.USE_DYHEAD = False  # a tower inside the pyramid; not built here

MODEL.LANGUAGE_BACKBONE = CfgNode()  # text encoder
MODEL.LANGUAGE_BACKBONE.MODEL_TYPE = "bert-base-uncased"  # BERT: a name, or a folder that holds it
MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE = "bert-base-uncased"  # a name, or a folder; not "clip"
MODEL.LANGUAGE_BACKBONE.LANG_DIM = 768  # features of a token
MODEL.LANGUAGE_BACKBONE.NUM_LAYERS = 12  # ours: layers of the encoder; BERT-base has 12
MODEL.LANGUAGE_BACKBONE.NUM_HEADS = 12  # ours: attention heads, also of the tower's text layers
MODEL.LANGUAGE_BACKBONE.MLP_DIM = 3072  # ours: hidden features of the MLPs, also of the tower's
MODEL.LANGUAGE_BACKBONE.N_LAYERS = 1  # last layers averaged into the `embedded` text features
MODEL.LANGUAGE_BACKBONE.MAX_QUERY_LEN = 256  # tokens of one prompt, [CLS] and [SEP] included
MODEL.LANGUAGE_BACKBONE.MASK_SPECIAL = False  # hide [CLS], [SEP] and padding from the tower
MODEL.LANGUAGE_BACKBONE.FREEZE = False  # without gradient, in evaluation mode
MODEL.LANGUAGE_BACKBONE.USE_CHECKPOINT = False  # recompute activations in the backward pass

MODEL.GROUP_NORM = CfgNode()  # in the tower's DyConv
MODEL.GROUP_NORM.NUM_GROUPS = 16  # groups; must divide MODEL.DYHEAD.CHANNELS
MODEL.GROUP_NORM.DIM_PER_GP = -1  # channels per group instead of NUM_GROUPS; not built here
MODEL.GROUP_NORM.EPSILON = 1e-5  # added to the variance; only 1e-5 here

MODEL.RPN = CfgNode()  # anchors; sequences name the pyramid levels, finest first
MODEL.RPN.USE_FPN = False  # anchors on a pyramid, one size per level; GLIP's files say True
MODEL.RPN.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # side in pixels of the input; GLIP: 64..1024
MODEL.RPN.ANCHOR_STRIDE = (16,)  # pixels between neighbours: the levels; GLIP: 8, 16, 32, 64, 128
MODEL.RPN.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width; GLIP, and only here: (1.0,)
MODEL.RPN.SCALES_PER_OCTAVE = 3  # anchor sizes per position; GLIP, and only here: 1
MODEL.RPN.ANCHOR_SHIFT = (0.0, 0.0, 0.0, 0.0)  # displacement of anchors; only 0 here
MODEL.RPN.USE_RELATIVE_SIZE = False  # anchor sizes relative to the picture; not built here
MODEL.RPN.FREEZE = False  # tower and predictor without gradient

MODEL.ATSS = CfgNode()  # what becomes of the predictions
MODEL.ATSS.INFERENCE_TH = 0.05  # class probability in [0, 1]; lower candidates go before NMS
MODEL.ATSS.PRE_NMS_TOP_N = 1000  # candidates kept per level and picture
MODEL.ATSS.NMS_TH = 0.6  # IoU in [0, 1] above which the lower box of the same class goes
MODEL.ATSS.DETECTIONS_PER_IMG = 100  # boxes kept per picture and prompt; LVIS uses 300
MODEL.ATSS.REG_LOSS_WEIGHT = 2.0  # factor of the GIoU loss

MODEL.DYHEAD = CfgNode()  # tower and predictor
MODEL.DYHEAD.NUM_CONVS = 4  # rounds of (fusion, text layer, DyConv); GLIP-T 6, GLIP-L 8
MODEL.DYHEAD.CHANNELS = 128  # of every level in the tower; GLIP uses 256
MODEL.DYHEAD.TOPK = 9  # ATSS: anchors per level that are candidates for a box
MODEL.DYHEAD.PRIOR_PROB = 0.01  # probability that a fresh model gives every token, sets its bias
MODEL.DYHEAD.LOG_SCALE = 0.0  # initial value of the log temperature of the alignment
MODEL.DYHEAD.SCORE_AGG = "MEAN"  # tokens -> phrase: "MEAN", "MAX", "POWER" (geometric), "ONEHOT"
MODEL.DYHEAD.USE_CHECKPOINT = False  # recompute activations of the tower in the backward pass
MODEL.DYHEAD.USE_GN = False  # GroupNorm in DyConv; GLIP, and only here: True
MODEL.DYHEAD.USE_DFCONV = False  # deformable convolutions in DyConv; GLIP, and only here: True
MODEL.DYHEAD.USE_DYFUSE = False  # levels weighted by attention; GLIP, and only here: True
MODEL.DYHEAD.USE_DYRELU = False  # DyReLU after DyConv; GLIP, and only here: True
MODEL.DYHEAD.USE_SYNCBN = False  # batch norm over processes in DyConv; not built here
MODEL.DYHEAD.USE_NSYNCBN = False  # the same, weighted by pixels; not built here
MODEL.DYHEAD.GROUPS = 1  # groups of the convolutions; only 1 here
MODEL.DYHEAD.CONV_FUNC = ""  # another convolution by name; not built here

MODEL.DYHEAD.FUSE_CONFIG = CfgNode()  # fusion of image and text, and the losses that speak of text
_FUSE = MODEL.DYHEAD.FUSE_CONFIG
_FUSE.EARLY_FUSE_ON = False  # image and text read each other in the tower; off in GLIP-T(A)
_FUSE.TYPE = ""  # kind of fusion; "MHA-B" is GLIP's, and the only one here
_FUSE.EMBED_DIM = 2048  # ours: channels in which image and text are compared, all heads together
_FUSE.NUM_HEADS = 8  # ours: attention heads of the fusion
_FUSE.JOINT_EMB_DROPOUT = 0.1  # dropout on the attention of the fusion; training
_FUSE.USE_LAYER_SCALE = True  # learned residual scales in the fusion; only True here
_FUSE.SEPARATE_BIDIRECTIONAL = False  # two attentions instead of one shared; not built here
_FUSE.STABLE_SOFTMAX_2D = False  # subtract the global maximum first; not built here
_FUSE.USE_FUSED_FEATURES_DOT_PRODUCT = False  # align with the tower's text; must be EARLY_FUSE_ON
_FUSE.ADD_LINEAR_LAYER = False  # a learned offset on the text features (prompt tuning)
_FUSE.USE_CLASSIFICATION_LOSS = False  # boxes scored by classes instead of words; not built here
_FUSE.USE_TOKEN_LOSS = False  # boxes scored by a fixed-length token layer; not built here
_FUSE.USE_DOT_PRODUCT_TOKEN_LOSS = False  # boxes scored by alignment; GLIP, and only here: True
_FUSE.DOT_PRODUCT_TOKEN_LOSS_WEIGHT = 1.0  # factor of the alignment loss
_FUSE.TOKEN_GAMMA = 2.0  # focusing exponent of the alignment's focal loss
_FUSE.TOKEN_ALPHA = 0.25  # weight in [0, 1] of matching tokens in it; 1 - alpha for the others
_FUSE.USE_CONTRASTIVE_ALIGN_LOSS = False  # add a contrastive loss between boxes and phrases
_FUSE.CONTRASTIVE_HIDDEN_DIM = 64  # features in which it compares
_FUSE.CONTRASTIVE_ALIGN_LOSS_WEIGHT = 1.0  # its factor
_FUSE.MLM_LOSS = False  # add a masked-language-model loss on the fused text; training
_FUSE.MLM_LOSS_COEF = 1.0  # its factor
_FUSE.MLM_LOSS_FOR_ONLY_POSITIVES = True  # only tokens that name a box are masked and predicted
_FUSE.MLM_OBJ_FOR_ONLY_POSITIVE = False  # only tokens that name a box enter the alignment loss
_FUSE.NO_MASK_FOR_OD = False  # never mask words of prompts made from detection data
_FUSE.NO_MASK_FOR_GOLD = False  # never mask words of human captions
