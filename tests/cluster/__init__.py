"""Tests of `inference.cluster`."""
