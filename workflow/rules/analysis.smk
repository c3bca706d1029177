# Analysis: how well an evaluated run's scores and boxes agree. A part of the study where it asks for it.


rule analyse:
    input:
        dataset=DATASET,
        model=f"{RESULTS}/{{run}}/model.pt",
        summary=f"{RESULTS}/{{run}}/train.json",
        metrics=f"{RESULTS}/{{run}}/metrics.json",
        detections=f"{RESULTS}/{{run}}/detections.json",
        code=code_files("analyse"),
    output:
        numbers=f"{RESULTS}/{{run}}/alignment.json",
        arrays=f"{RESULTS}/{{run}}/alignment.npz",
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        split=STUDY.split,
        inference=lambda wildcards: as_text(
            STUDY.runs[wildcards.run].method.inference.model_dump(mode="json")
        ),
    log:
        f"{LOGS}/analyse-{{run}}.log",
    benchmark:
        f"{LOGS}/analyse-{{run}}.tsv"
    threads: THREADS
    resources:
        gpu=min(SETTINGS.gpus, 1),
    conda:
        "../../environment.yml"
    shell:
        "tood analyse --run {params.folder:q} --gpu {resources.gpu} --threads {threads} --log {log:q}"
