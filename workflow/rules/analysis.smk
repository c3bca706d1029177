# Analysis: how well an evaluated run's scores and boxes agree. A part of the study where it asks for it.


rule analyse:
    input:
        stamp("analyse", "{run}"),
        dataset=after(DATASET),
        model=lambda wildcards: after(f"{RESULTS}/{wildcards.run}/model.pt"),
        summary=lambda wildcards: after(f"{RESULTS}/{wildcards.run}/train.json"),
        metrics=lambda wildcards: after(f"{RESULTS}/{wildcards.run}/metrics.json"),
        detections=lambda wildcards: after(f"{RESULTS}/{wildcards.run}/detections.json"),
    output:
        numbers=update(f"{RESULTS}/{{run}}/alignment.json"),
        arrays=update(f"{RESULTS}/{{run}}/alignment.npz"),
    params:
        folder=f"{RESULTS}/{{run}}",
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
