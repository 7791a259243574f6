# Correctness of a chunk's models on the frozen images. `outcomes` makes what all models need, clean and under PGD-10, and
# the adversarial examples given to measures; every other outcome has a rule of its own, so that adding one computes
# nothing else again. The eps of a curve share a rule: a job loads each model once.


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


for GROUP in JOBS.outcome_groups:

    rule:
        name:
            f"outcome_{GROUP}"
        input:
            JOBS.outcome_manifests(GROUP),
            data="<results>/data/splits.json",
        output:
            table=f"<results>/outcomes/{GROUP}/{{chunk}}.parquet",
        log:
            f"<logs>/outcomes/{GROUP}/{{chunk}}.log",
        benchmark:
            f"<benchmarks>/outcomes/{GROUP}/{{chunk}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            runtime=lambda wildcards, attempt: 8 * 60 * attempt,
        params:
            results=subpath(output.table, ancestor=3),
            group=GROUP,
            digest=JOBS.chunk_digest,
            outcomes=JOBS.group_digest(GROUP),
        shell:
            "robustgap_python -m robustgap.training outcomes --plan {params.results}/plan.json --chunk {wildcards.chunk}"
            " --outcome {params.group} --results {params.results} --out {output} > {log} 2>&1"
