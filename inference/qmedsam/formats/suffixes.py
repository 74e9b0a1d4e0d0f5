"""How the names of files of each format end; asked for without the libraries that read them."""

from ..batch.cases import CASE_SUFFIX

NIFTI_SUFFIXES = (".nii", ".nii.gz")
GZIP_SUFFIX = ".gz"
ZIP_SUFFIX = ".zip"
PLAIN_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PACKED_DICOM_SUFFIXES = tuple(suffix + GZIP_SUFFIX for suffix in PLAIN_DICOM_SUFFIXES)
DICOM_SUFFIXES = (*PLAIN_DICOM_SUFFIXES, *PACKED_DICOM_SUFFIXES, ZIP_SUFFIX)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
CASE_SUFFIXES = (CASE_SUFFIX,)
SUFFIXES = (*NIFTI_SUFFIXES, *DICOM_SUFFIXES, *PICTURE_SUFFIXES, *CASE_SUFFIXES)
