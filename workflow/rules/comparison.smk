# Comparison: tables, figures and the report of a study, and its mirror in MLflow.


rule compare:
    input:
        stamp("compare"),
        dataset=ancient(DATASET),
        runs=expand(
            f"{RESULTS}/{{run}}/{{file}}",
            run=STUDY.runs,
            file=[
                "config.yaml",
                "history.csv",
                "train.json",
                "metrics.json",
                "detections.json",
                "pr.csv",
                "thresholds.json",
                *analysis_files(STUDY),
            ],
        ),
    output:
        csv=f"{RESULTS}/comparison.csv",
        details=f"{RESULTS}/details.csv",
        md=f"{RESULTS}/comparison.md",
        tex=f"{RESULTS}/comparison.tex",
        analysis=expand(f"{RESULTS}/{{file}}", file=analysis_tables(STUDY)),
        figures=directory(f"{RESULTS}/figures"),
        report=f"{RESULTS}/report.html",
    params:
        study=STUDY.name,
        selection=selection_options(SETTINGS.selection),
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{LOGS}/compare.tsv"
    threads: CORES  # the bootstrap over images shares them out
    shell:
        "tood compare --study {params.study:q} {params.selection:q} --threads {threads} --log {log:q}"


rule track:
    input:
        f"{RESULTS}/report.html",
    output:
        f"{RESULTS}/tracked.json",
    params:
        study=STUDY.name,
    log:
        f"{LOGS}/track.log",
    benchmark:
        f"{LOGS}/track.tsv"
    localrule: True  # writes a database that is a file, from one machine
    shell:
        "tood sync --study {params.study:q} --log {log:q}"
