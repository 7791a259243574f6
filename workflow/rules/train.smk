# One job trains the runs of a batch. Each run saves its training state in runs/RUN, so a killed job resumes where it
# stopped; a collapsed run is recorded in its run.json and does not fail the job. A job trains as many runs in parallel as
# it has threads; their number is not a parameter, because it changes no result.


rule train:
    input:
        data="<results>/data/splits.json",
    output:
        manifest="<results>/runs/{batch}.json",
    log:
        "<logs>/train/{batch}.log",
    benchmark:
        "<benchmarks>/train/{batch}.tsv"
    conda:
        "../../environment.yml"
    threads: JOBS.study["train_processes"]
    resources:
        runtime=lambda wildcards, attempt: 24 * 60 * attempt,
        mem_mb=lambda wildcards, threads, attempt: (4000 + 4000 * threads) * attempt,
    params:
        results=subpath(output.manifest, ancestor=2),
        digest=JOBS.batch_digest,
    shell:
        "robustgap_python -m robustgap.training train --plan {params.results}/plan.json --batch {wildcards.batch}"
        " --results {params.results} --out {output} --processes {threads} > {log} 2>&1"
