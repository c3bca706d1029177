"""Evaluation: COCO numbers, and whether a difference means anything."""
