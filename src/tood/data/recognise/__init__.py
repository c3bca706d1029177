"""Recognising the format and layout of a folder of pictures and annotations, for ``tood init``."""
