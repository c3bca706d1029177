"""The reference cases that must pass: what ``make test`` selects. It grows as the project does."""

PASSING = (
    "tal_assign*",
    "atss_assign*",
    "resize_shapes*",
    "resize_sample*",
    "coco_mini*",
    "head_tood_af*",
    "head_tood_ab*",
    "head_atss*",
    "head_gfl*",
    "head_retina*",
    "head_paa*",
    "head_free_anchor*",
    "head_pisa_retina*",
    "whole_atss_r50",
    "whole_gfl_r50",
    "whole_tood_r50",
    "whole_tood_r50_ab",
    "whole_tood_r50_dcn_c3c5",
)

TRAJECTORIES = (
    "trajectory_atss",
    "trajectory_gfl",
    "trajectory_tood",
    "trajectory_retinanet_2p",
    "trajectory_paa_2p",
    "trajectory_free_anchor_2p",
    "trajectory_pisa_2p",
)
"""The recorded trainings that the loop follows; a minute each, so make test takes the first steps of some."""
