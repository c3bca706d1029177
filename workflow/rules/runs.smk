# Runs: train a detector, then evaluate its last checkpoint.


rule train:
    input:
        dataset=DATASET,
        trunks=list(TRUNKS.values()),
        code=code_files("train"),
    output:
        model=f"{RESULTS}/{{run}}/model.pt",
        config=f"{RESULTS}/{{run}}/config.yaml",
        history=f"{RESULTS}/{{run}}/history.csv",
        summary=f"{RESULTS}/{{run}}/train.json",
    log:
        f"{LOGS}/train-{{run}}.log",
    benchmark:
        f"{LOGS}/train-{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=SETTINGS.gpu_count,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        gpu=SETTINGS.gpu,
        config=lambda wildcards: as_text(STUDY.runs[wildcards.run].science()),
    shell:
        "tood train --run {params.folder:q} --gpu {params.gpu} --threads {threads} --log {log:q}"


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
    log:
        f"{LOGS}/evaluate-{{run}}.log",
    benchmark:
        f"{LOGS}/evaluate-{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: CORES  # alone on the machine: its speed is a column of the table
    resources:
        gpu=min(SETTINGS.gpu_count, 1),
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        gpu="auto" if SETTINGS.gpu == "auto" else min(SETTINGS.gpu_count, 1),
        split=STUDY.split,
        inference=lambda wildcards: as_text(
            STUDY.runs[wildcards.run].method.inference.model_dump(mode="json")
        ),
    shell:
        "tood evaluate --run {params.folder:q} --gpu {params.gpu} --threads {threads} --log {log:q}"
