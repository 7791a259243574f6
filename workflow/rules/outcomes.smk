# Correctness of a chunk's models on the frozen images, clean and attacked. Adversarial images are computed once per model
# and cached for the measures.


onerror:
    JOBS.on_error()


rule outcomes:
    input:
        JOBS.manifests,
        data="<results>/data/splits.json",
    output:
        table="<results>/outcomes/{chunk}.parquet",
    log:
        "<logs>/outcomes/{chunk}.log",
    benchmark:
        "<benchmarks>/outcomes/{chunk}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        runtime=lambda wildcards, attempt: 8 * 60 * attempt,
    params:
        results=subpath(output.table, ancestor=2),
        digest=JOBS.chunk_digest,
    shell:
        "robustgap_python -m robustgap.training outcomes --plan {params.results}/plan.json --chunk {wildcards.chunk}"
        " --results {params.results} --out {output} > {log} 2>&1"
