"""TensorFlow's notices about the processor, kept off the terminal."""

import os


def silence() -> None:
    """To be called before TensorFlow is imported, which reads both settings once.

    A setting that the user has made stays. Where oneDNN is on, as it is on some processors, a line
    says so at any log level.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
