# Submission: files for an evaluation server, for the studies that name a data set to submit on.
SUBMISSIONS = [
    f"{RESULTS}/{run}/{file}"
    for run in STUDY.runs
    for file in submission_files(STUDY, run)
]

if STUDY.submission is not None:
    SUBMITTED = f"data/{STUDY.submission.name}/dataset.json"
    LISTING, ARCHIVE = submission_files(STUDY, "{run}")

    rule prepare_submission_data:
        input:
            code=code_files("prepare"),
        output:
            SUBMITTED,
        params:
            name=STUDY.submission.name,
            config=lambda wildcards: as_text(STUDY.submission.model_dump(mode="json")),
            own_files=own_files_digest(STUDY.submission.root),
        log:
            f"results/logs/prepare-{STUDY.submission.name}.log",
        benchmark:
            f"results/logs/prepare-{STUDY.submission.name}.tsv"
        conda:
            "../../environment.yml"
        localrule: True  # a download: the nodes of a cluster need no network
        shell:
            "tood data prepare {params.name:q} --log {log:q}"

    rule submit:
        input:
            dataset=DATASET,
            images=SUBMITTED,
            model=f"{RESULTS}/{{run}}/model.pt",
            code=code_files("submit"),
        output:
            listing=f"{RESULTS}/{{run}}/{LISTING}",
            archive=f"{RESULTS}/{{run}}/{ARCHIVE}",
        params:
            folder=lambda wildcards, output: Path(output[0]).parent,
            name=STUDY.submission.name,
            inference=lambda wildcards: as_text(
                STUDY.runs[wildcards.run].method.inference.model_dump(mode="json")
            ),
        log:
            f"{LOGS}/submit-{{run}}.log",
        benchmark:
            f"{LOGS}/submit-{{run}}.tsv"
        threads: THREADS
        resources:
            gpu=min(SETTINGS.gpus, 1),
        conda:
            "../../environment.yml"
        shell:
            "tood submit --run {params.folder:q} --dataset {params.name:q} --out {params.folder:q} "
            "--gpu {resources.gpu} --threads {threads} --log {log:q}"
