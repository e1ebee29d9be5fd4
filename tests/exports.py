"""Tiny exported models, as fixtures."""

import pytest

WORDS = ["the", "cat", "dog", "bird", "sees", "likes", "red", "small", "old", "house", "tree", "good", "bad"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def export_model():
    """Returns a function that writes an exported BERT of `layers` layers and hidden size 32 to `directory`."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    torch.set_num_threads(1)  # on models as small as these a second thread only waits for its turn
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}

    def export(directory, layers=1, positions=32, seed=0):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=positions,
        )
        BertForMaskedLM(config).save_pretrained(directory)
        tokenizer = BertTokenizer(vocab=vocabulary)
        assert len(tokenizer) == len(vocabulary)
        tokenizer.save_pretrained(directory)
        return directory

    return export


@pytest.fixture(scope="session")
def models(export_model, tmp_path_factory):
    """Two exports, teacher/ (2 layers) and student/ (1 layer)."""
    root = tmp_path_factory.mktemp("export")
    return [export_model(root / "teacher", layers=2), export_model(root / "student", layers=1)]
