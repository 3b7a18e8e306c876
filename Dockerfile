# Commands on a CPU, as a user without rights: see docs/services.md. Tests parse this file; none builds it.
FROM python:3.12-slim

# OpenMP, for LightGBM
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir "/src[efficientnet-lite0,glove-50,onnxruntime,parquet]" && rm -rf /src

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin runner
USER runner
WORKDIR /data
ENV PYTHONUTF8=1
ENTRYPOINT ["encode-once"]
