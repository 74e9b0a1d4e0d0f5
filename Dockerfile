# The service: `docker build -t qmedsam .`, then see README.md for running it.
ARG BASE=python:3.11-slim
FROM ${BASE}

LABEL org.opencontainers.image.title="QMedSAM Service" \
      org.opencontainers.image.description="Box-prompted segmentation of medical images on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0"

# The cache is filled below for the processor that builds. It is not writable at run time: on
# another processor a container that runs once would pay to fill it, and compiles without it.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/workspace/inference \
    QMEDSAM_CACHE_DIR=/workspace/cache \
    QMEDSAM_ON_ERROR=empty

WORKDIR /workspace
COPY requirements.lock ./
# Without dependencies, whose only one that is not listed is OpenVINO's telemetry. Of OpenVINO the
# processor's plugin and the reader of its own format are used; the rest, for other
# devices, other formats and for building against it, is 90 MB.
RUN python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && openvino="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/openvino" \
    && find "$openvino/libs" -name 'libopenvino_*' \
        ! -name 'libopenvino_intel_cpu_plugin.so*' ! -name 'libopenvino_ir_frontend.so*' -delete \
    && rm -r "$openvino/include" "$openvino/cmake" "$openvino/libs/cache.json" \
    && useradd --no-create-home --uid 1000 qmedsam \
    && mkdir inputs outputs \
    && chown qmedsam outputs
COPY LICENSE predict.sh ./
COPY inference inference
COPY models models
# The user below cannot write bytecode, so it is made here.
RUN python -m compileall -q inference \
    && mkdir cache \
    && python -c "from pathlib import Path; from qmedsam import Settings, segmenter; \
segmenter.fill_cache(Settings(cache_dir=Path('cache').resolve()))" \
    && set -- cache/*/*.blob && test "$#" = 20 \
    && chmod -R a+rX cache

USER 1000
CMD ["/bin/bash", "-c", "sh predict.sh"]
