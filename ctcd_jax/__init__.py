"""Train language models together and let them teach each other (CTCD, Lee et al., Findings of EMNLP 2023)."""

__version__ = "0.2.0"
