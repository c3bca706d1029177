"""Compare the project with reference numbers in a folder.

    python tests/golden/check.py DIR [--only GLOB ...]

A case is the stem of a JSON file in DIR; globs match stems. Prints one row per quantity. The exit code is 1
if anything differs by more than its tolerance, if a selected case is of an unknown kind, or if none matches.

Of a head, ill-conditioned values beyond their tolerance have the room that float32 rounding needs, measured value by
value (reference_check/rounding.py); the row says so.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

from reference_check.dispatch import check_case, find_cases  # noqa: E402
from reference_check.rows import table  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of reference files")
    parser.add_argument("--only", nargs="+", action="extend", default=[], metavar="GLOB", help="stems to check")
    options = parser.parse_args(arguments)
    cases = find_cases(options.folder, options.only)
    if not cases:
        print(f"{options.folder}: no reference case" + (f" matches {' '.join(options.only)}" if options.only else ""))
        return 1
    rows = [row for case in cases for row in check_case(options.folder, case)]
    print(table(rows))
    failed = sorted({row.case for row in rows if not row.passed})
    print(f"\n{len(rows)} quantities of {len(cases)} cases, {sum(not row.passed for row in rows)} failed")
    if failed:
        print("failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
