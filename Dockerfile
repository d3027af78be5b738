# The server and command line, for compose.yaml. Needs BuildKit, which Docker has by default.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/src/target --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked -p sluice-api --bin sluice && cp target/release/sluice /sluice

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /sluice /usr/local/bin/sluice
USER nobody
ENTRYPOINT ["sluice"]
CMD ["--help"]
