"""Evaluation: COCO metrics, significance of differences, alignment of scores and boxes."""
