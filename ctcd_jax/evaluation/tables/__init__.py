"""What fine-tuned cells add up to: means, intervals, comparisons, and the tables that say so."""
