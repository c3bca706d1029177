"""Command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunOption = Annotated[Path, typer.Option("--run", help="The run's folder, results/<study>/<run>.")]
SomeRunOption = Annotated[Path | None, typer.Option("--run", help="A run's folder, results/<study>/<run>.")]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="A model.pt, for instance an imported one.")]
StudyOption = Annotated[str, typer.Option("--study", help="A study, as <study> or <study>@<data set or scale>.")]
GpuOption = Annotated[str, typer.Option("--gpu", help="'auto' (all there are), a number, or 0 for the CPU.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 means all.")]
LogOption = Annotated[Path | None, typer.Option("--log", help="Also write the output to this file.")]
ExportOption = Annotated[Path | None, typer.Option("--export", help="A file that tood export wrote.")]
