# Correctness of a chunk's models on the frozen images. `outcomes` makes what all models need, clean and under PGD-10, and
# the adversarial examples given to measures; every other outcome has a rule of its own, so that adding one computes
# nothing else again. The eps of a curve share a rule: a job loads each model once.


onerror:
    JOBS.on_error()


for NAME, GROUP in JOBS.outcome_rules.items():

    rule:
        name:
            NAME
        input:
            JOBS.outcome_manifests(GROUP),
            data="<results>/data/splits.json",
        output:
            table=f"<results>/{JOBS.outcome_folder(GROUP)}/{{chunk}}.parquet",
        log:
            f"<logs>/{JOBS.outcome_folder(GROUP)}/{{chunk}}.log",
        benchmark:
            f"<benchmarks>/{JOBS.outcome_folder(GROUP)}/{{chunk}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            runtime=lambda wildcards, attempt: 8 * 60 * attempt,
        params:
            results=subpath(output.table, ancestor=3 if GROUP else 2),
            group=GROUP,
            digest=JOBS.chunk_digest,
            outcomes=JOBS.group_digest(GROUP),
        shell:
            "robustgap_python -m robustgap.training outcomes --plan {params.results}/plan.json --chunk {wildcards.chunk}"
            " --outcome '{params.group}' --results {params.results} --out {output} > {log} 2>&1"
