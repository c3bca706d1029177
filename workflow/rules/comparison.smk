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
        csv=shown(
            f"{RESULTS}/comparison.csv",
            "comparison",
            "Comparison",
            {"what": "table of the rows"},
        ),
        details=shown(
            f"{RESULTS}/details.csv",
            "details",
            "Comparison",
            {"what": "kinds of errors, classes"},
        ),
        md=f"{RESULTS}/comparison.md",
        tex=f"{RESULTS}/comparison.tex",
        analysis=[
            (
                shown(
                    f"{RESULTS}/{file}",
                    "alignment",
                    "Comparison",
                    {"what": "alignment of score and IoU"},
                )
                if file.endswith(".csv")
                else f"{RESULTS}/{file}"
            )
            for file in analysis_tables(STUDY)
        ],
        figures=shown(
            directory(f"{RESULTS}/figures"),
            "figure",
            "Figures",
            {"figure": "{figure}"},
            ["{figure}.png"],
        ),
        report=shown(
            f"{RESULTS}/report.html",
            "report",
            "Comparison",
            {"what": "report of the study"},
        ),
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
