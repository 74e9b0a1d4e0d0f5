"""What an exported model and its caller agree on.

Export writes by it, inference reads by it, and training prepares its images by it. A change that
an exported model would notice needs a new `CONTRACT_VERSION`.
"""

CONTRACT_VERSION = 2

LITE_MEDSAM_IMAGE_SIZE = 256
MEDSAM_IMAGE_SIZE = 1024
EMBEDDING_SHAPE = (1, 256, 64, 64)
EMBEDDING_SIZE = EMBEDDING_SHAPE[-1]
LOW_RES_SIZE = 256
UPSCALING = LOW_RES_SIZE // EMBEDDING_SIZE  # logits per pixel of the embedding, along a side

# The encoder's input may be smaller than the model frame: a grid. Its sides are multiples of this,
# so that those of the embedding are multiples of its smallest crop.
GRID_STEP = 64
Grid = tuple[int, int]  # height and width in pixels

# The encoder takes the image. Whatever it puts out, the decoder takes by the same names, with boxes
# and crops: for each box the pixels of the embedding to decode, counted row by row.
IMAGE_NAME = "image"
IMAGE_EMBEDDING_NAME = "image_embedding"
BOXES_NAME = "boxes"
CROPS_NAME = "windows"  # as the files that ship have it
LOW_RES_LOGITS_NAME = "low_res_logits"
# Of a network whose head for it was trained, the decoder also says how good each mask may be: (N,),
# the DSC that is predicted of it, 0 to 1.
QUALITY_NAME = "quality"

ENCODER_FILE = "encoder.xml"
# Where the encoder is cut in two, this one takes what the first gives.
ENCODER_REST_FILE = "encoder_rest.xml"
DECODER_FILE = "decoder.xml"
MANIFEST_FILE = "manifest.json"

# How an image is brought to the model frame: its long side is resized to the frame's, then its
# minimum and maximum are mapped to 0 and 1, then zeros are added below and to the right.
# docs/decisions.md, "Images are shrunk linearly and enlarged cubically", has the figures.
SHRINK_INTERPOLATION = 1  # cv2.INTER_LINEAR
ENLARGE_INTERPOLATION = 2  # cv2.INTER_CUBIC
# Linear interpolation skips pixels when it shrinks more; larger images are first averaged to that.
LARGEST_SHRINK = 4
AVERAGE_INTERPOLATION = 3  # cv2.INTER_AREA

LOGIT_THRESHOLD = 0.0  # a pixel belongs to the object above it; applied after upsampling


def grids_up_to(size: int) -> tuple[Grid, ...]:
    """Return all grids whose sides are at most `size`, which is a multiple of the step."""
    sides = range(GRID_STEP, size + 1, GRID_STEP)
    return tuple((height, width) for height in sides for width in sides)


def stretch_to_square(grid_hw: Grid, image_size: int) -> tuple[float, float, float, float]:
    """Return what x, y, x, y of a box on a grid are multiplied by, edges counted from 0.

    The network knows positions from border to border, so that it takes the boxes of a grid where
    they would be, were the grid stretched to the square.
    """
    height, width = grid_hw
    return (image_size / width, image_size / height) * 2


def stride_of(image_size: int) -> int:
    """Return the pixels of a model frame that one of the embedding stands for, along a side."""
    return image_size // EMBEDDING_SIZE


def embedding_hw(grid_hw: Grid, stride: int) -> tuple[int, int]:
    """Return height and width of the embedding of a grid."""
    height, width = grid_hw
    return height // stride, width // stride
