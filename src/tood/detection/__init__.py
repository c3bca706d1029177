"""Detectors in PyTorch: backbones, necks, heads, assigners, criteria (losses) and post-processing.

Legend of shapes: B images, N locations of all pyramid levels together (P3 first, row-major), G padded
slots for objects, C classes, K regression bins.
"""
