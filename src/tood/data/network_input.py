"""Constants of network inputs: normalisation and padding. Here nothing imports image libraries."""

MEAN = (123.675, 116.28, 103.53)
"""Of red, green and blue on ImageNet, 0 to 255."""
STD = (58.395, 57.12, 57.375)
PAD_MULTIPLE = 32
"""Both sides of the network's input are multiples of this."""
