"""Kinds of detectors that can be imported, and recognition of the kind in a checkpoint.

Layer names tell only a family of detectors: PAA has the layers of ATSS, FreeAnchor and PISA those of RetinaNet. The
configuration in the file, or the user, says which detector of the family it is.
"""

from dataclasses import dataclass
from typing import Literal

from tood.io.errors import UserError
from tood.weights.mmdet.mmdet_config import ForeignConfig, class_name
from tood.weights.mmdet.parameter_keys import Family

MethodName = Literal["tood", "atss", "paa", "gfl", "retinanet", "free_anchor", "pisa"]
"""Files of ``params/methods`` whose detector MMDetection has."""


@dataclass(frozen=True)
class Kind:
    """A detector of MMDetection."""

    method: MethodName
    shown: str
    """Name in messages."""
    family: Family
    """The family whose layer names it has."""
    head: str
    """The class of its head in MMDetection."""


KINDS = (
    Kind("tood", "TOOD", "tood", "TOODHead"),
    Kind("atss", "ATSS", "atss", "ATSSHead"),
    Kind("paa", "PAA", "atss", "PAAHead"),
    Kind("gfl", "GFL", "gfl", "GFLHead"),
    Kind("retinanet", "RetinaNet", "retina", "RetinaHead"),
    Kind("free_anchor", "FreeAnchor", "retina", "FreeAnchorRetinaHead"),
    Kind("pisa", "PISA", "retina", "PISARetinaHead"),
)


def recognise(family: Family, config: ForeignConfig, given: MethodName | None, where: str) -> Kind:
    """The detector of that family that the file's configuration, or else the user (``given``), names.

    Raises UserError if neither says it where there are several, if they contradict each other or the layers, and for
    heads that are not built here.
    """
    possible = [kind for kind in KINDS if kind.family == family]
    names = " or ".join(kind.shown for kind in possible)
    head = class_name(config.model("bbox_head", "type"))
    if head is not None and head not in {kind.head for kind in possible}:
        heads = " or ".join(repr(kind.head) for kind in possible)
        raise UserError(
            f"{where}: its configuration has {head!r} as model.bbox_head.type, but only {heads} can be imported for "
            "these layers."
        )
    if given is not None and given not in {kind.method for kind in possible}:
        raise UserError(f"{where}: its layers are those of {names}; leave out --method {given}.")
    left = [kind for kind in possible if head in (None, kind.head) and given in (None, kind.method)]
    if not left:
        raise UserError(f"{where}: says that its head is a {head}; leave out --method {given}.")
    if len(left) > 1:
        options = " or ".join(f"--method {kind.method}" for kind in left)
        raise UserError(
            f"{where}: does not say whether it is {names}, whose layers have the same names and shapes; give {options}."
        )
    return left[0]
