# Everything that a study needs, at the pins of constraints.txt:
#   docker build --tag robustgap .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" robustgap --workflow-profile profiles/local --cores all
# for a cluster: apptainer build robustgap.sif docker-daemon://robustgap:latest
FROM python:3.11-slim

# git fetches workflows that are named by their repository.
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*

COPY . /opt/robustgap
# One command for all, or a later one would replace torch. For a CPU alone: --build-arg INDEX=https://download.pytorch.org/whl/cpu
ARG INDEX=
RUN pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} \
    --constraint /opt/robustgap/constraints.txt --editable '/opt/robustgap[train,workflow]'

# Caches of Snakemake and matplotlib go to a home that any user can write.
ENV HOME=/tmp/home
RUN mkdir --mode=1777 /tmp/home
WORKDIR /work
ENTRYPOINT ["snakemake"]
