"""Findings: problems of a data set (errors and notes), collected while it is read.

Readers do not stop at the first problem. An ``error`` means that the data set cannot be prepared as it is, a ``note``
that something was dropped or corrected. ``prepare`` refuses on errors, ``check`` shows all.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tood.config.datasets import DatasetConfig, SharedKind, drops
from tood.io.errors import UserError
from tood.io.escape import escape

Severity = Literal["error", "note"]
_VARIABLE = re.compile(r"'[^']*'|\S*/\S*|[0-9][0-9.,]*")
_LONGEST = 500  # characters of a name or a sentence
LEAVE_OUT = "; restore it or leave it out"
SHOWN = 20  # sentences of one kind before "and N more"


def plural(count: int, noun: str) -> str:
    """``plural(2, "box")`` is "2 boxes"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + ('es' if noun[-1] in 'xs' else 's')}"


def printable(value: object) -> str:
    """Text that is safe on any terminal and in any file, shortened if it is very long."""
    return escape(value, most=_LONGEST)


@dataclass(frozen=True)
class Finding:
    """One problem: ``where`` names the file or image, ``text`` says what is wrong and what is done about it.

    With ``boxes`` the sentence starts with their number ("2 boxes without area dropped").
    """

    severity: Severity
    where: str
    text: str
    boxes: int = 0

    def sentence(self) -> str:
        counted = f"{plural(self.boxes, 'box')} " if self.boxes else ""
        return f"{self.where}: {counted}{self.text}"


@dataclass
class Findings:
    """Findings in the order they were made; box findings of one image and kind are counted together."""

    drops_unreadable: bool | None = None
    """Whether pictures that cannot be decoded are left out, which is noted, instead of being errors; None where the
    data set has no such choice."""
    drops_missing: bool | None = None
    """The same of annotated pictures that are not there."""
    _unreadable: dict[Path, str] = field(default_factory=dict)
    _missing: set[tuple[str, str]] = field(default_factory=set)
    _found: dict[tuple[Severity, str, str], int] = field(default_factory=dict)
    _shared: dict[SharedKind, dict[str, Any]] = field(default_factory=dict)

    def error(self, where: object, text: str) -> None:
        self._found.setdefault(("error", printable(where), printable(text)), 0)

    def note(self, where: object, text: str) -> None:
        self._found.setdefault(("note", printable(where), printable(text)), 0)

    def box(self, where: object, text: str) -> None:
        key: tuple[Severity, str, str] = ("note", printable(where), printable(text))
        self._found[key] = self._found.get(key, 0) + 1

    def unreadable(self, path: Path, text: str) -> None:
        """Record a picture that cannot be decoded; the text may end with ``LEAVE_OUT``."""
        self._unreadable[path] = text
        if self.drops_unreadable:
            self.note(path, f"left out with its annotations: {text.removesuffix(LEAVE_OUT)}")
        else:
            self.error(path, text)

    def missing(self, where: object, text: str) -> None:
        """Record an annotated picture that is not there; the text may end with ``LEAVE_OUT``."""
        self._missing.add((printable(where), printable(text)))
        if self.drops_missing:
            self.note(where, f"its annotations are left out: {text.removesuffix(LEAVE_OUT)}")
        else:
            self.error(where, text)

    @property
    def missing_pictures(self) -> int:
        """How many annotated pictures are not there."""
        return len(self._missing)

    @property
    def unreadable_pictures(self) -> Set[Path]:
        """The files of pictures that cannot be decoded, as far as they were found yet."""
        return self._unreadable.keys()

    def advice(self) -> list[str]:
        """How many pictures cannot be decoded or are missing and what to do, where they are errors with a choice."""
        sentences = []
        for count, choice, what, rule in (
            (len(self._missing), self.drops_missing, "{} missing", "missing: drop"),
            (len(self._unreadable), self.drops_unreadable, "cannot be read", "unreadable: drop"),
        ):
            if count and choice is False:
                are, them = ("is", "it") if count == 1 else ("are", "them")
                sentences.append(
                    f"{plural(count, 'picture')} {what.format(are)}; restore {them}, or leave {them} out with the "
                    f"annotations by '{rule}'"
                )
        return sentences

    def share(self, kind: SharedKind, image: object, detail: Any = None) -> None:
        """Record that the image file has a finding which is an error if most images share it (see ``data.shared``)."""
        self._shared.setdefault(kind, {})[str(image)] = detail

    def shared(self, kind: SharedKind) -> Mapping[str, Any]:
        """The image files with such a finding, and what was recorded of each."""
        return self._shared.get(kind, {})

    @property
    def all(self) -> list[Finding]:
        return [Finding(severity, where, text, boxes) for (severity, where, text), boxes in self._found.items()]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.all if finding.severity == "error"]

    def sentences(self, severity: Severity) -> list[str]:
        """Sentences of one severity, the first ``SHOWN`` of each kind and a count of the rest.

        Texts are of one kind if they differ in numbers and quoted names only.
        """
        kinds: dict[str, list[Finding]] = {}
        for finding in self.all:
            if finding.severity == severity:
                kinds.setdefault(_VARIABLE.sub("#", finding.text), []).append(finding)
        lines: list[str] = []
        for findings in kinds.values():
            lines += [finding.sentence() for finding in findings[:SHOWN]]
            rest = findings[SHOWN:]
            if rest:
                boxes = sum(finding.boxes for finding in rest)
                counted = f" ({plural(boxes, 'box')})" if boxes else ""
                lines.append(f"{len(rest):,} more of this kind{counted}")
        return lines

    def raise_errors(self, name: str, *, unreadable_alone: bool = True) -> None:
        """Raise UserError for errors: the first and the number of further ones, then every unreadable picture.

        Without ``unreadable_alone`` nothing is raised where there is no other error.
        """
        errors = self.errors
        pictures = {printable(path) for path in self._unreadable}
        unreadable = [error.sentence() for error in errors if error.where in pictures]
        others = [error.sentence() for error in errors if error.where not in pictures]
        if not others and not (unreadable and unreadable_alone):
            return
        rest = len(others) - 1
        if rest > 0:
            others[0] += f" ({plural(rest, 'further problem')}; 'tood data check {name}' lists all)"
        advice = [f"data set '{name}': {sentence}" for sentence in self.advice()]
        raise UserError(*(text if text.endswith("?") else f"{text}." for text in [*others[:1], *advice, *unreadable]))


def findings_of(config: DatasetConfig) -> Findings:
    """None yet, with what the data set says of pictures that cannot be used."""
    return Findings(drops_unreadable=drops(config, "unreadable"), drops_missing=drops(config, "missing"))
