# One rule per measure, one job per chunk; with `measure_jobs: chunk` one rule for all of them, whose jobs load each
# model once and share passes between measures. `code` changes with the arithmetic of a measure and of every helper
# it uses, not with comments; `digest` with the chunk's models.

for GROUP, NAMES in JOBS.measure_rules.items():

    rule:
        name:
            f"compute_{GROUP}"
        input:
            "<results>/outcomes/{chunk}.parquet",
        output:
            [f"<results>/measures/{NAME}/{{chunk}}.csv" for NAME in NAMES],
        log:
            f"<logs>/measures/{GROUP}/{{chunk}}.log",
        benchmark:
            f"<benchmarks>/measures/{GROUP}/{{chunk}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        params:
            results=lambda wildcards, output: Path(output[0]).parents[2],
            measures=",".join(NAMES),
            code=[code_id(NAME) for NAME in NAMES],
            digest=JOBS.chunk_digest,
        shell:
            "robustgap_python -m robustgap.measures run {params.measures} --plan {params.results}/plan.json --chunk {wildcards.chunk}"
            " --results {params.results} > {log} 2>&1"


for PATH in JOBS.extra_rules:

    include: PATH


for NAME in JOBS.measures:

    rule:
        name:
            f"measure_{NAME}"
        input:
            JOBS.for_chunks(f"<results>/measures/{NAME}/{{chunk}}.csv"),
        localrule: True
