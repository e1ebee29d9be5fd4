"""Masked language models in Flax, and conversion to and from Hugging Face; the architectures are in `registry`."""

from ctcd_jax.models.bert import BertConfig, BertForMaskedLM

__all__ = ["BertConfig", "BertForMaskedLM"]
