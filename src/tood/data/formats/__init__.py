"""Readers of annotation formats: COCO, Pascal VOC, YOLO, lists of images."""
