# The images of the study: fixed splits, and pseudo-labels of the extra pool if runs use it. The only job that downloads,
# so it runs where Snakemake runs: cluster nodes have no network. Pseudo-labelling trains a network and is submitted to a
# node; data sets with a pool need no download.


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
