# Models trained elsewhere need no rule of their own: their chunks have no training jobs, and outcomes and measures load
# them from model_dir. The target `robustbench` computes exactly the chunks that hold such models.


rule robustbench:
    input:
        JOBS.foreign_files(),
    localrule: True
