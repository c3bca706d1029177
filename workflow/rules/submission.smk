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
            stamp("prepare", STUDY.submission.name),
        output:
            in_place(SUBMITTED),
        params:
            name=STUDY.submission.name,
        log:
            f"results/logs/prepare-{STUDY.submission.name}.log",
        benchmark:
            f"results/logs/prepare-{STUDY.submission.name}.tsv"
        localrule: True  # a download: the nodes of a cluster need no network
        shell:
            "tood data prepare {params.name:q} --log {log:q}"

    rule submit:
        input:
            stamp("submit", "{run}"),
            dataset=ancient(DATASET),
            images=SUBMITTED,
            model=f"{RESULTS}/{{run}}/model.pt",
        output:
            listing=f"{RESULTS}/{{run}}/{LISTING}",
            archive=f"{RESULTS}/{{run}}/{ARCHIVE}",
        params:
            folder=f"{RESULTS}/{{run}}",
            name=STUDY.submission.name,
        log:
            f"{LOGS}/submit-{{run}}.log",
        benchmark:
            f"{LOGS}/submit-{{run}}.tsv"
        threads: lambda wildcards: THREADS[wildcards.run]
        resources:
            gpu=min(GPUS, 1),
        shell:
            "tood submit --run {params.folder:q} --dataset {params.name:q} --out {params.folder:q} "
            "--gpu {resources.gpu} --threads {threads} --log {log:q}"
