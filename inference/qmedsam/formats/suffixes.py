"""How the names of files of each format end; asked for without the libraries that read them."""

from ..batch.cases import CASE_SUFFIX

NIFTI_SUFFIXES = (".nii", ".nii.gz")  # in which NIfTI is written, too
NIFTI_PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
ITK_SUFFIXES = (".nrrd", ".mha")  # likewise
ITK_HEADER_SUFFIXES = (".nhdr", ".mhd")  # whose values lie in another file
NRRD_SUFFIXES = (".nrrd", ".nhdr")  # of these; the others are MetaImage
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *NIFTI_PAIR_SUFFIXES, *ITK_SUFFIXES, *ITK_HEADER_SUFFIXES)
GZIP_SUFFIX = ".gz"
ZIP_SUFFIX = ".zip"
PLAIN_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PACKED_DICOM_SUFFIXES = tuple(suffix + GZIP_SUFFIX for suffix in PLAIN_DICOM_SUFFIXES)
SEG_SUFFIX = ".dcm"
SEG, RTSTRUCT = "seg", "rtstruct"  # what labels in a DICOM file are
DICOM_KINDS = (SEG, RTSTRUCT)
DICOM_FILE_SUFFIXES = (*PLAIN_DICOM_SUFFIXES, *PACKED_DICOM_SUFFIXES)
DICOM_SUFFIXES = (*DICOM_FILE_SUFFIXES, ZIP_SUFFIX)
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".jp2", ".j2k"),
)
LABEL_PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")  # which keep each value
CASE_SUFFIXES = (CASE_SUFFIX,)
SUFFIXES = (*VOLUME_SUFFIXES, *DICOM_SUFFIXES, *PICTURE_SUFFIXES, *CASE_SUFFIXES)
