# Runs: train a detector, then evaluate its last checkpoint.


rule train:
    input:
        stamp("train", "{run}"),
        dataset=after("train", "model.pt", DATASET),
        weights=lambda wildcards: after(
            "train", "model.pt", *starting_weights(wildcards.run)
        )(wildcards),
    output:
        model=in_place(f"{RESULTS}/{{run}}/model.pt"),
        config=shown(
            in_place(f"{RESULTS}/{{run}}/config.yaml"),
            "config",
            "Runs",
            {"run": "{run}", "what": "configuration"},
        ),
        history=shown(
            in_place(f"{RESULTS}/{{run}}/history.csv"),
            "history",
            "Runs",
            {"run": "{run}", "what": "losses and AP by epoch"},
        ),
        summary=in_place(f"{RESULTS}/{{run}}/train.json"),
    params:
        folder=f"{RESULTS}/{{run}}",
        code=SETTINGS.code.choice,
        code_minutes=SETTINGS.code.minutes,
    log:
        f"{LOGS}/train-{{run}}.log",
    benchmark:
        f"{LOGS}/train-{{run}}.tsv"
    threads: lambda wildcards: THREADS[wildcards.run]
    resources:
        gpu=GPUS,
        accumulate=SETTINGS.accumulate,  # no parameter of the rule: it does not change what is computed
        attempt=lambda wildcards, attempt: attempt,
    retries: 3  # continue what was killed; a failure for good ends the next attempt at once
    shell:
        "tood train --run {params.folder:q} --gpu {resources.gpu} --accumulate {resources.accumulate} "
        "--threads {threads} --attempt {resources.attempt} --code {params.code} "
        "--code-minutes {params.code_minutes} --log {log:q}"


rule evaluate:
    input:
        stamp("evaluate", "{run}"),
        dataset=after("evaluate", "metrics.json", DATASET),
        model=after("evaluate", "metrics.json", f"{RESULTS}/{{run}}/model.pt"),
    output:
        metrics=in_place(f"{RESULTS}/{{run}}/metrics.json"),
        detections=in_place(f"{RESULTS}/{{run}}/detections.json"),
        curves=in_place(f"{RESULTS}/{{run}}/pr.csv"),
        thresholds=in_place(f"{RESULTS}/{{run}}/thresholds.json"),
        samples=shown(
            directory(f"{RESULTS}/{{run}}/samples"),
            "sample",
            "Runs",
            {"run": "{run}", "what": "{picture}"},
            ["{picture}.png"],
        ),
    params:
        folder=f"{RESULTS}/{{run}}",
    log:
        f"{LOGS}/evaluate-{{run}}.log",
    benchmark:
        f"{LOGS}/evaluate-{{run}}.tsv"
    threads: CORES  # alone on the machine: its speed is a column of the table
    resources:
        gpu=min(GPUS, 1),
    shell:
        "tood evaluate --run {params.folder:q} --gpu {resources.gpu} --threads {threads} --log {log:q}"
