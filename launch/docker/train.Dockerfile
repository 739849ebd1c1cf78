# Training, and TensorBoard. From the repository's root:
#   docker build -f launch/docker/train.Dockerfile --build-arg DEVICE=cuda -t jaxsound-train .
FROM python:3.11-slim

# cpu or cuda; CUDA itself comes with JAX's wheels, the driver from the host.
ARG DEVICE=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jaxsound jaxsound
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$DEVICE" in \
      cpu) extra='' ;; \
      cuda) extra='[cuda]' ;; \
      *) echo "error: DEVICE=$DEVICE: cpu or cuda" >&2; exit 2 ;; \
    esac; \
    pip install -c constraints.txt ".$extra"

# What is written at run time, by whichever user the container runs as.
RUN useradd --uid 1000 jaxsound && install -d -m 1777 /cache /app /app/runs
ENV JAXSOUND_CACHE=/cache/jaxsound \
    NUMBA_CACHE_DIR=/cache/numba \
    MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
COPY configs configs
USER jaxsound

ENTRYPOINT ["python", "-m", "jaxsound.main"]
CMD ["--config=configs/quickstart.py"]
