"""After pre-training: fine-tuning, latency and the report.

This room knows exported Hugging Face directories and the JSON/TSV artifacts, nothing of JAX. Import what you need from
its modules (`finetune.glue`, `latency.latency`, `report.report`); PyTorch is loaded only by the first two.
"""
