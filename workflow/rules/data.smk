# The images of the study: fixed splits, and pseudo-labels of the extra pool where runs ask for it. It is the one job that
# downloads, so it runs where Snakemake runs: nodes of a cluster have no network. Labelling trains a network, and belongs
# on a node; sets that have a pool come with the packages.


rule data:
    output:
        splits="<results>/data/splits.json",
    log:
        "<logs>/data.log",
    benchmark:
        "<benchmarks>/data.tsv"
    localrule: not JOBS.labels_a_pool()
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=subpath(output.splits, ancestor=2),
        digest=JOBS.data_digest(),
    shell:
        "robustgap_python -m robustgap.training data --plan {params.results}/plan.json --out {output} > {log} 2>&1"
