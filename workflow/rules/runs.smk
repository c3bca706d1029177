# Runs: train a detector, then evaluate its last checkpoint.


rule train:
    input:
        dataset=DATASET,
        backbones=list(BACKBONES.values()),
        code=lambda wildcards: code_files(
            "train", code_of(STUDY.runs[wildcards.run].method)
        ),
    output:
        model=f"{RESULTS}/{{run}}/model.pt",
        config=f"{RESULTS}/{{run}}/config.yaml",
        history=f"{RESULTS}/{{run}}/history.csv",
        summary=f"{RESULTS}/{{run}}/train.json",
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        config=lambda wildcards: as_text(STUDY.runs[wildcards.run].science()),
    log:
        f"{LOGS}/train-{{run}}.log",
    benchmark:
        f"{LOGS}/train-{{run}}.tsv"
    threads: THREADS
    resources:
        gpu=SETTINGS.gpus,
        accumulate=SETTINGS.accumulate,  # no parameter of the rule: it does not change what is computed
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../environment.yml"
    retries: 3  # continue what was killed; a failure for good ends the next attempt at once
    shell:
        "tood train --run {params.folder:q} --gpu {resources.gpu} --accumulate {resources.accumulate} "
        "--threads {threads} --attempt {resources.attempt} --log {log:q}"


rule evaluate:
    input:
        dataset=DATASET,
        model=f"{RESULTS}/{{run}}/model.pt",
        code=code_files("evaluate"),
    output:
        metrics=f"{RESULTS}/{{run}}/metrics.json",
        detections=f"{RESULTS}/{{run}}/detections.json",
        curves=f"{RESULTS}/{{run}}/pr.csv",
        samples=directory(f"{RESULTS}/{{run}}/samples"),
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        split=STUDY.split,
        inference=lambda wildcards: as_text(
            STUDY.runs[wildcards.run].method.inference.model_dump(mode="json")
        ),
    log:
        f"{LOGS}/evaluate-{{run}}.log",
    benchmark:
        f"{LOGS}/evaluate-{{run}}.tsv"
    threads: CORES  # alone on the machine: its speed is a column of the table
    resources:
        gpu=min(SETTINGS.gpus, 1),
    conda:
        "../../environment.yml"
    shell:
        "tood evaluate --run {params.folder:q} --gpu {resources.gpu} --threads {threads} --log {log:q}"
