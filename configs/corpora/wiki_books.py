"""The paper's corpus: one in four sentences of English Wikipedia and BookCorpus, the corpus of DistilBERT.

    ctcd prepare --config configs/corpora/wiki_books.py --out runs/wiki_books

What differs: the paper does not say which dump it took (2022 or before); this is that of November 2023. BookCorpus is a
mirror of two text files, a sentence a line, because the original on the hub is a loading script, which `datasets` no
longer runs; its licence is unclear. Both come over the network. To use what you have instead:

    '--config.sources.wikipedia=parquet:wiki/*.parquet' '--config.sources.books=text:books/*.txt.xz,lines=sentences'
"""

from ctcd_jax.config import recipe


def get_config(preset: str = ""):
    return recipe(
        {
            "wikipedia": "hf:wikimedia/wikipedia,name=20231101.en",
            "books": "hf:rojagtap/bookcorpus,lines=sentences",
        },
        every=4,
    )
