"""DICOM in, and label maps of it out as DICOM SEG, NIfTI or PNG.

`scan` is what others use. `sources` are files, wherever they lie; `attributes` and `headers` read
them; `series`, `frames`, `volumes` and `phases` say what belongs together, `planes` and `geometry`
where it lies; `values` has the pixels, and `segmentation` writes a SEG.
"""
