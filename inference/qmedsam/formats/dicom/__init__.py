"""DICOM in, and label maps of it out as DICOM SEG, NIfTI or PNG.

`scan` is what others use. `sources` are files, wherever they lie; `attributes` and `headers` read
them, `planes`, `volumes` and `geometry` say what belongs together and where it lies, `values` has
their pixels, and `segmentation` writes a SEG.
"""
