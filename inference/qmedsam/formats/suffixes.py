"""How the names of files of each format end; asked for without the libraries that read them."""

from ..batch.cases import CASE_SUFFIX

NIFTI_SUFFIXES = (".nii", ".nii.gz")
DICOM_SUFFIXES = (".dcm", ".dicom")
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".jp2", ".j2k"),
)
CASE_SUFFIXES = (CASE_SUFFIX,)
SUFFIXES = (*NIFTI_SUFFIXES, *DICOM_SUFFIXES, *PICTURE_SUFFIXES, *CASE_SUFFIXES)
