"""What an exported model and its caller agree on; export writes by it, inference reads by it."""

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

# Interpolation of the long side to the model frame, OpenCV's code.
RESIZE_INTERPOLATION = 3  # cv2.INTER_AREA

LOGIT_THRESHOLD = 0.0  # a pixel belongs to the object above it; applied after upsampling
