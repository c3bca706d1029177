# Data: the study's data set in the prepared layout, and backbones pretrained on generated crops.


rule prepare_data:
    input:
        code=code_files("prepare"),
    output:
        DATASET,
    params:
        name=STUDY.dataset.name,
        config=lambda wildcards: as_text(STUDY.dataset.model_dump(mode="json")),
        own_files=own_files_digest(getattr(STUDY.dataset, "root", None)),
    log:
        f"results/logs/prepare-{STUDY.dataset.name}.log",
    benchmark:
        f"results/logs/prepare-{STUDY.dataset.name}.tsv"
    conda:
        "../../environment.yml"
    localrule: True  # a download: the nodes of a cluster need no network
    shell:
        "tood data prepare {params.name:q} --log {log:q}"


rule pretrain_backbone:
    input:
        code=code_files("pretrain"),
    output:
        "data/pretrained/{backbone}.pt",
    params:
        config=lambda wildcards: next(
            as_text(
                run.backbone.model_dump(
                    mode="json",
                    include={"kind", "deformable", "first_stage_width", "pretraining"},
                )
            )
            for run in STUDY.runs.values()
            if run.backbone.name == wildcards.backbone
        ),
    log:
        "results/logs/pretrain-{backbone}.log",
    benchmark:
        "results/logs/pretrain-{backbone}.tsv"
    threads: THREADS
    conda:
        "../../environment.yml"
    shell:
        "tood pretrain {wildcards.backbone:q} --out {output:q} --threads {threads} --log {log:q}"
