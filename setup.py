"""Let wheels and source archives carry along the files of a project, which lie at the repository's root."""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROJECT = runpy.run_path(str(ROOT / "src/tood/workflow/project_files.py"))


class BuildWithProject(build_py):
    """Puts the package together; an editable install finds the files at the root."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.rmtree(self._target, ignore_errors=True)  # of an earlier build, with files that are gone since
            PROJECT["copy_files"](ROOT, self._target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        files = [] if self.editable_mode else PROJECT["project_files"](ROOT)
        return [*super().get_outputs(include_bytecode), *(str(self._target / file) for file in files)]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *map(str, PROJECT["project_files"](ROOT))]

    @property
    def _target(self) -> Path:
        return Path(PROJECT["packaged_in"](Path(self.build_lib, "tood")))


setup(cmdclass={"build_py": BuildWithProject})
