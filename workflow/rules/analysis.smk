# Analysis: how well an evaluated run's scores and boxes agree. A part of the study where it asks for it.


rule analyse:
    input:
        stamp("analyse", "{run}"),
        dataset=after("analyse", "alignment.json", DATASET),
        model=after("analyse", "alignment.json", f"{RESULTS}/{{run}}/model.pt"),
        summary=after("analyse", "alignment.json", f"{RESULTS}/{{run}}/train.json"),
        metrics=after("analyse", "alignment.json", f"{RESULTS}/{{run}}/metrics.json"),
        detections=after(
            "analyse", "alignment.json", f"{RESULTS}/{{run}}/detections.json"
        ),
    output:
        numbers=in_place(f"{RESULTS}/{{run}}/alignment.json"),
        arrays=in_place(f"{RESULTS}/{{run}}/alignment.npz"),
    params:
        folder=f"{RESULTS}/{{run}}",
    log:
        f"{LOGS}/analyse-{{run}}.log",
    benchmark:
        f"{LOGS}/analyse-{{run}}.tsv"
    threads: lambda wildcards: THREADS[wildcards.run]
    resources:
        gpu=min(GPUS, 1),
    shell:
        "tood analyse --run {params.folder:q} --gpu {resources.gpu} --threads {threads} --log {log:q}"
