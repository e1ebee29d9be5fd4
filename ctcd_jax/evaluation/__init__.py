"""Fine-tuning of exported models (PyTorch): `finetune.glue` runs models x tasks x seeds, cell by cell."""
