"""What tells images at one position apart: echoes, b-values, phases.

Files of one image say it themselves, enhanced ones of each frame in groups of its own.
"""

from __future__ import annotations

from .attributes import Attributes
from .frames import Frame
from .planes import within

# By keyword, in the order in which they are tried.
TRAITS = {
    "EffectiveEchoTime": "echo time",
    "EchoTime": "echo time",
    "EchoNumbers": "echo",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "gradient",
    "InversionTime": "inversion time",
    "InversionTimes": "inversion time",
    "FlipAngle": "flip angle",
    "TemporalPositionIndex": "time point",
    "TemporalPositionIdentifier": "time point",
    "NominalPercentageOfCardiacPhase": "percentage of the cardiac phase",
    "NominalCardiacTriggerDelayTime": "trigger delay",
    "TriggerTime": "trigger time",
    "ComplexImageComponent": "component",
    "FrameType": "type",
    "ImageType": "type",
    "ConvolutionKernel": "kernel",
    "KVP": "kVp",
    "AcquisitionNumber": "acquisition",
    "FrameAcquisitionNumber": "acquisition",
    "FrameReferenceTime": "reference time",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
# Where enhanced files have them.
GROUPS = {
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "InversionTimes": "MRModifierSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "KVP": "CTXRayDetailsSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
}
FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def trait_of(frame: Frame, keyword: str) -> str:
    """Return the value of a trait of a frame as text; empty where it has none."""
    groups = list(frame.groups)
    if not groups:
        return frame.header.attributes.lenient(keyword)
    if keyword == "FrameType":
        found = [_in_group(groups, sequence, keyword) for sequence in FRAME_TYPES]
        return next(filter(None, found), "")
    if keyword == "DiffusionGradientOrientation":
        diffusion = within(groups, "MRDiffusionSequence")
        return _in_group(
            [diffusion] if diffusion else [], "DiffusionGradientDirectionSequence", keyword
        )
    if keyword in GROUPS:
        return _in_group(groups, GROUPS[keyword], keyword)
    return frame.header.attributes.lenient(keyword)  # of files with a time point each


def stack_of(frame: Frame) -> str:
    """Return the stack that an enhanced file says a frame is of; empty where it says none."""
    return _in_group(list(frame.groups), "FrameContentSequence", "StackID")


def _in_group(groups: list[Attributes], sequence: str, keyword: str) -> str:
    item = within(groups, sequence)
    return "" if item is None else item.lenient(keyword)
