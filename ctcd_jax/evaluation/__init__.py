"""What people look at: fine-tuned scores, latency, the report, and what is in a corpus.

This room knows exported Hugging Face directories, the JSON/TSV artifacts and prepared corpora, nothing of JAX. Import
what you need from its modules (`finetune.glue`, `latency.latency`, `report.report`, `inspection.corpus.inspect`);
PyTorch is loaded only by the first two.
"""
