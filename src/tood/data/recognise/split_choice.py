"""Which files belong to which split, by their names, and what is drawn where a split is missing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from tood.data.recognise.place import Place
from tood.data.recognise.recognised import Choices, Field
from tood.io.errors import UserError, listed

TRAINVAL = "trainval"
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    TRAINVAL: TRAINVAL,
}
_VAL = 0.2

T = TypeVar("T")


def split_of(name: str, *, alone: bool = False) -> str | None:
    """The split that a name without suffix tells, as ``instances_train2017`` does; None without, or with several.

    With ``alone`` the name may have no other word: ``cat_train`` is a list of one class.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    found = {_SPLITS[word] for word in words if word in _SPLITS}
    if len(found) != 1 or (alone and any(word not in _SPLITS for word in words)):
        return None
    return found.pop()


def split_of_path(path: str) -> str | None:
    """The split that a path below the root tells: by its last part, else by the nearest folder above."""
    for part in reversed(PurePosixPath(path).parts):
        if (found := split_of(PurePosixPath(part).stem)) is not None:
            return found
    return None


@dataclass(frozen=True)
class Splits(Generic[T]):
    """The splits that are used: those given, and what is drawn; a pool alone is all there is to draw from."""

    given: Mapping[str, T]
    pool: T | None
    draw: Field | None
    said: tuple[str, ...] = field(default=())

    def fields(self, written: Mapping[str, Any], why: str, pool: Mapping[str, Any] | None = None) -> list[Field]:
        """The fields that name the splits as they are ``written``, or the fields ``pool`` of all there is to draw from,
        and 'draw'."""
        if self.pool is None or pool is None:
            fields = [Field("splits", dict(written), why)]
        else:
            fields = [Field(name, value, why if not place else "") for place, (name, value) in enumerate(pool.items())]
        return fields if self.draw is None else [*fields, self.draw]


def decide_splits(found: Mapping[str | None, T], place: Place, choices: Choices, *, as_pool: bool = True) -> Splits[T]:
    """Which of the splits found are used, and what is drawn out of which.

    ``None`` is what no split is named for. Without ``as_pool`` a single split is called train and drawn out of, since
    its format cannot draw from it otherwise. Raises UserError where the names leave open what is trained on.
    """
    splits = dict(found)
    said: list[str] = []
    _settle_trainval(splits, said)
    unnamed = splits.pop(None, None)
    named: dict[str, T] = {name: one for name, one in splits.items() if name is not None}
    if unnamed is not None and "train" in named:
        raise UserError(
            f"{place.shown}: has the splits {listed(list(named))} and pictures in none of them; put those into "
            "one of the splits' folders, or give the folder of a single split."
        )
    if unnamed is not None:
        named = {"train": unnamed, **named}
    if len(named) == 1 and "train" not in named:
        (only,) = named
        said.append(f"'{only}' is the only split, so train and val are drawn out of it")
        named = {"train": named[only]}
    if "train" not in named:
        raise UserError(
            f"{place.shown}: has the splits {listed(list(named))} and none to train on; add 'train', or give the "
            "folder of a single split, from which train and val are drawn."
        )
    named = {name: named[name] for name in ("train", "val", "test") if name in named}
    shares = _shares(named, place, choices)
    if not shares:
        return Splits(named, None, None, tuple(said))
    is_pool = len(named) == 1 and as_pool
    draw: dict[str, Any] = {**({} if "val" in shares else {"val": 0.0}), **shares, "seed": choices.seed}
    if not is_pool:
        draw["out_of"] = "train"
    if not choices.one_by_one:
        draw["together"] = "near_duplicates"
    return Splits(
        named, named["train"] if is_pool else None, Field("draw", draw, _why(named, shares, choices)), tuple(said)
    )


def _settle_trainval(splits: dict[str | None, T], said: list[str]) -> None:
    if TRAINVAL not in splits:
        return
    both = splits.pop(TRAINVAL)
    if "train" in splits or "val" in splits:
        said.append("'trainval' is train and val together, and not used by itself")
    else:
        splits["train"] = both
        said.append("'trainval' is divided into train and val")


def _shares(named: Mapping[str, object], place: Place, choices: Choices) -> dict[str, float]:
    for name, asked in (("val", choices.val), ("test", choices.test)):
        if asked and name in named:
            raise UserError(f"--{name} {asked:g}: {place.shown} has a split '{name}' of its own; leave the option out.")
    if choices.val == 0 and "val" not in named:
        raise UserError(f"--val 0: {place.shown} has no split 'val', which is needed; give a share above 0.")
    val = _VAL if choices.val is None else choices.val
    wanted = {"val": 0.0 if "val" in named else val, "test": 0.0 if "test" in named else choices.test or 0.0}
    if sum(wanted.values()) >= 1:
        raise UserError("--val and --test: together they must leave pictures to train on (be below 1).")
    return {name: share for name, share in wanted.items() if share > 0}


def _why(named: Mapping[str, object], shares: Mapping[str, float], choices: Choices) -> str:
    parts = " and ".join(f"{share:.0%} for {name}" for name, share in shares.items())
    given = "the pictures are not split" if len(named) == 1 else f"there is no {' and no '.join(shares)}"
    side = (
        "each by itself (--one-by-one), so that val may be easier than new pictures"
        if choices.one_by_one
        else "near-duplicate pictures on one side"
    )
    return f"{given}: {parts} are drawn{'' if len(named) == 1 else ' out of train'}, {side}"
