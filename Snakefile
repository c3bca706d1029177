# One command takes data to a comparison table:
#   snakemake --cores all                              the study `demo`
#   snakemake --cores all --config study=bccd          another study of params/studies
#   snakemake --cores all --config study=demo dataset=mine   the same study on own data
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


container: "tood.sif"  # with --sdm apptainer only; made of the Containerfile (docs/scaling.md)


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/submission.smk"
include: "workflow/rules/comparison.smk"


rule all:
    default_target: True
    input:
        rules.compare.output,  # each of its files, should somebody have deleted one
        f"{RESULTS}/tracked.json",
        SUBMISSIONS,
