# Data: the study's data set in the prepared layout, and trunks pretrained on generated crops.


rule prepare_data:
    input:
        code=code_files("prepare"),
    output:
        DATASET,
    log:
        f"results/logs/prepare-{STUDY.dataset.name}.log",
    benchmark:
        f"results/logs/prepare-{STUDY.dataset.name}.tsv"
    conda:
        "../../environment.yml"
    params:
        name=STUDY.dataset.name,
        config=as_text(STUDY.dataset.model_dump(mode="json")),
        own_files=own_files_digest(getattr(STUDY.dataset, "root", None)),
    shell:
        "tood data prepare {params.name:q} --log {log:q}"


rule pretrain_trunk:
    input:
        code=code_files("pretrain"),
    output:
        "data/pretrained/{backbone}.pt",
    log:
        "results/logs/pretrain-{backbone}.log",
    benchmark:
        "results/logs/pretrain-{backbone}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    params:
        config=lambda wildcards: next(
            as_text(run.backbone.model_dump(mode="json"))
            for run in STUDY.runs.values()
            if run.backbone.name == wildcards.backbone
        ),
    shell:
        "tood pretrain {wildcards.backbone:q} --out {output:q} --threads {threads} --log {log:q}"
