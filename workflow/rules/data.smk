# Data: the study's data set in the prepared layout, and backbones pretrained on generated crops.


rule prepare_data:
    input:
        stamp("prepare", STUDY.dataset.name),
    output:
        in_place(DATASET),  # stays until its successor is complete, and for good where nothing changed
    params:
        name=STUDY.dataset.name,
    log:
        f"results/logs/prepare-{STUDY.dataset.name}.log",
    benchmark:
        f"results/logs/prepare-{STUDY.dataset.name}.tsv"
    localrule: True  # a download: the nodes of a cluster need no network
    shell:
        "tood data prepare {params.name:q} --log {log:q}"


rule pretrain_backbone:
    input:
        stamp("pretrain", "{backbone}"),
    output:
        in_place("data/pretrained/{backbone}.pt"),
    log:
        "results/logs/pretrain-{backbone}.log",
    benchmark:
        "results/logs/pretrain-{backbone}.tsv"
    threads: max(1, CORES // max(1, len(BACKBONES)))
    shell:
        "tood pretrain {wildcards.backbone:q} --out data/pretrained/{wildcards.backbone:q}.pt --threads {threads} "
        "--log {log:q}"
