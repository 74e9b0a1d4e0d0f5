# The service: `docker build -t qmedsam .`, then see README.md for running it.
ARG BASE=python:3.11-slim
FROM ${BASE}

LABEL org.opencontainers.image.title="QMedSAM Service" \
      org.opencontainers.image.description="Box-prompted segmentation of medical images on a CPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# No cache of compiled models: a container that runs once would pay 45 ms to fill it.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    QMEDSAM_CACHE_DIR=""

WORKDIR /workspace
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt \
    && useradd --create-home --uid 1000 qmedsam \
    && mkdir inputs outputs \
    && chown qmedsam outputs
COPY LICENSE predict.sh ./
COPY inference inference
COPY models models
# The user below cannot write bytecode, so it is made here.
RUN python -m compileall -q inference

USER qmedsam
CMD ["/bin/bash", "-c", "sh predict.sh"]
