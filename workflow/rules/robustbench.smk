# Models trained elsewhere need no rule of their own: a chunk of them has no training jobs, and outcomes and measures
# load them from model_dir. The target `robustbench` computes all of it, and nothing of the study's own grid that does
# not share a chunk with them.


rule robustbench:
    input:
        JOBS.foreign_files(),
    localrule: True
