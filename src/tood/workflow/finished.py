"""Finished trainings: whether ``tood train`` keeps or repeats them."""

from pathlib import Path

from tood.config.parts import code_of
from tood.config.study import RunConfig
from tood.data.prepared import PreparedDataset
from tood.io.errors import UserError
from tood.weights.weights_digest import starting_weights_digest
from tood.workflow.code_choice import CodeChoice
from tood.workflow.code_digest import code_behind
from tood.workflow.plan import code_question
from tood.workflow.standing import Expected, Standing, training_standing


def expected_training(config: RunConfig, prepared: PreparedDataset, data: Path) -> Expected:
    """What a run depends on now; ``data`` is the folder of data sets and pretrained backbones."""
    weights = starting_weights_digest(config.backbone, data / "pretrained")
    return Expected(config, code_behind("train", code_of(config.method)), prepared.digests, weights)


def stays(folder: Path, expected: Expected, code: CodeChoice) -> Standing | None:
    """The finished training in ``folder`` if it is to be kept; None if it is to be repeated, or there is none.

    Raises UserError if it would be thrown away because of code alone and the user has not allowed that.
    """
    standing = training_standing(folder, expected)
    if standing.state == "current":
        return standing
    if standing.by_code_alone:
        if code.choice == "keep":
            return standing
        if code.choice == "ask" and standing.seconds > 60 * code.minutes:
            question = code_question({expected.config.run: standing}, code.minutes)
            raise UserError(f"study '{expected.config.study}': {question}")
    return None
