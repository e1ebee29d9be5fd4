"""What models know without fine-tuning: `evaluate` on held-out text, `probe` on minimal pairs."""
