"""Flax BERT with its masked-language-model head, and the road to and from Hugging Face."""

from ctcd_jax.models.bert import BertConfig, BertForMaskedLM

__all__ = ["BertConfig", "BertForMaskedLM"]
