"""Files of researchers, read as what the segmenter takes and written in their own geometry.

What these need beyond the runtime is installed by `pip install '.[io]'`; `suffixes`, `boxes`,
`intensity` and `scan` do without, so that commands can name formats and windows in their help.
"""
