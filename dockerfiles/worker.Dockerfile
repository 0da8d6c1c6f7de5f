# The render watchdog, in an image of nothing else: renderers' Dockerfiles copy it from here (docs/own-dockerfile.md).
#
#   docker build -f dockerfiles/worker.Dockerfile -t framewake/worker:0.1.0 .
#
# Programs that are built already (`make static` puts them into dist/amd64) are taken with --build-arg BUILT=prebuilt.
ARG BUILT=source
ARG RUST=rust:1.95-bookworm

FROM ${RUST} AS source
ARG TARGETARCH
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# framewake-gpu loads NVIDIA's library, which a static program can't: it needs glibc, and so does that library.
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) machine=x86_64 ;; \
      arm64) machine=aarch64 ;; \
      *) echo "no worker is made for ${TARGETARCH}" >&2; exit 1 ;; \
    esac \
 && rustup target add "$machine-unknown-linux-musl" "$machine-unknown-linux-gnu" \
 && export "CC_${machine}_unknown_linux_musl=musl-gcc" \
 && cargo build --release --locked -p framewake-worker --target "$machine-unknown-linux-musl" \
 && cargo build --release --locked -p framewake-gpu --target "$machine-unknown-linux-gnu" \
 && mkdir /out \
 && cp "target/$machine-unknown-linux-musl/release/framewake-worker" \
       "target/$machine-unknown-linux-gnu/release/framewake-gpu" /out/

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/framewake-worker dist/${TARGETARCH}/framewake-gpu /out/

FROM ${BUILT} AS built

FROM scratch
LABEL org.opencontainers.image.title="framewake-worker" \
      org.opencontainers.image.description="The render watchdog of Framewake" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=built /out/framewake-worker /out/framewake-gpu /
# Any other does as well.
USER 65532:65532
ENTRYPOINT ["/framewake-worker"]
