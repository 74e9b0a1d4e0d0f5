"""Tests of `qmedsam.cluster`."""
