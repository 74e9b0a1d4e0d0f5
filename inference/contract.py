"""What an exported model and its caller agree on.

Export writes by it, inference reads by it, and training prepares its images by it. A change that
an exported model would notice needs a new `CONTRACT_VERSION`.
"""

CONTRACT_VERSION = 1

LITE_MEDSAM_IMAGE_SIZE = 256
MEDSAM_IMAGE_SIZE = 1024
EMBEDDING_SHAPE = (1, 256, 64, 64)
LOW_RES_SIZE = 256

IMAGE_NAME = "image"
IMAGE_EMBEDDING_NAME = "image_embedding"
BOXES_NAME = "boxes"
LOW_RES_LOGITS_NAME = "low_res_logits"

ENCODER_FILE = "encoder.xml"
DECODER_FILE = "decoder.xml"
MANIFEST_FILE = "manifest.json"

# How an image is brought to the model frame: its long side is resized to the frame's, then its
# minimum and maximum are mapped to 0 and 1, then zeros are added below and to the right.
#
# Chosen by `python -m benchmarks.preprocessing` on the published weights, f32, mean DSC of eleven
# modalities on 95 validation cases (and, with `--kind 2D --precision bf16`, of eight on 260 other
# images), before boxes were mapped by the centres of pixels:
#   area   75.0 (78.9), the baseline's; area, padded before mapping to 0..1: 75.2, Dermoscopy -1.6
#   cubic  76.9 (80.5), but X-ray -3.0 (-1.8) and Fundus -2.0 (-0.5) against area
#   cubic, padded before mapping to 0..1, the paper's order: 77.1, X-ray -2.7, Dermoscopy -1.7
#   linear 76.6 (79.7), no 2D modality more than 0.1 below area
# Where an image is enlarged, cubic decides for MR (65.4 against 63.9); PET is 70.5 against 70.8.
SHRINK_INTERPOLATION = 1  # cv2.INTER_LINEAR
ENLARGE_INTERPOLATION = 2  # cv2.INTER_CUBIC
# Linear interpolation skips pixels when it shrinks much. The figures above are of images up to
# this many times the model frame; larger ones are first averaged down to it.
LARGEST_SHRINK = 4
AVERAGE_INTERPOLATION = 3  # cv2.INTER_AREA

LOGIT_THRESHOLD = 0.0  # a pixel belongs to the object above it; applied after upsampling
