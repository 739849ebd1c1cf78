# A trained run as a server with its page. From the repository's root:
#   docker build -f launch/docker/serve.Dockerfile -t jaxsound-serve .
FROM python:3.11-slim

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jaxsound jaxsound
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt '.[serve]'

# What is written at run time, by whichever user the container runs as.
RUN useradd --uid 1000 jaxsound && install -d -m 1777 /cache
ENV JAXSOUND_CACHE=/cache/jaxsound \
    NUMBA_CACHE_DIR=/cache/numba \
    MPLCONFIGDIR=/cache/matplotlib
USER jaxsound
WORKDIR /cache

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=3m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "jaxsound.serve", "--host=0.0.0.0", "--port=8000"]
CMD ["/runs/quickstart"]
