"""What a model knows and costs: the options of `evaluate`, `probe`, `glue` and `latency`."""

import argparse
import inspect
from dataclasses import fields
from typing import Any

from ctcd_jax.arguments import count_list, file_path, located, name_list, number, share_of_work
from ctcd_jax.options.verb import ANY_ENCODER, MOST_PROCESSES, add_models, add_verb
from ctcd_jax.ranges import COUNT, Range


def add_verbs(verbs) -> None:
    _add_evaluate(verbs)
    _add_probe(verbs)
    _add_glue(verbs)
    _add_latency(verbs)


def _add_evaluate(verbs) -> None:
    verb = add_verb(
        verbs,
        "evaluate",
        "models on held-out text -> loss, perplexity, accuracy; resumes by itself",
        "Every model on the validation rows of every corpus, under the masks of training's own validation, in float32. "
        "Beside the loss stands that of knowing word frequencies alone. What is in --out already is not run again.",
        _evaluate_defaults,
    )
    verb.add_argument(
        "--model",
        action="append",
        required=True,
        type=located,
        metavar="DIR|WORKDIR#MEMBER[@STEP|@best]",
        help="of `ctcd export`, another BERT of Hugging Face's, or a run's member at its newest step, also while it is "
        "trained, at a saved one, or at the run's best (train.keep_best); may be given several times",
    )
    verb.add_argument(
        "--corpus",
        dest="corpora",
        action="append",
        required=True,
        type=file_path,
        metavar="DIR",
        help="of `ctcd prepare`, with the model's tokenizer; may be given several times",
    )
    verb.add_argument("--out", type=file_path, metavar="DIR", help="also write evaluation.jsonl and table.md")
    work = verb.add_argument_group("the work; figures differ by rounding alone", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--backend", choices=("jax", "torch"), help="torch: an export in PyTorch's BertForMaskedLM (default {default})"
    )
    work.add_argument("--batch-size", type=number(COUNT), metavar="N", help="rows at once (default {default})")


def _evaluate_defaults() -> dict[str, Any]:
    from ctcd_jax.scoring.evaluate import evaluate

    return {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}


def _add_probe(verbs) -> None:
    verb = add_verb(
        verbs,
        "probe",
        "exported models on minimal pairs -> accuracy without fine-tuning; resumes by itself",
        "A model's choice is the sentence with the greater pseudo-log-likelihood: every token masked by itself. All of "
        "BLiMP is 67,000 pairs and, with BERT's vocabulary, 1.3 million masked sentences. A paradigm that is in --out "
        "already is not run again.",
        _probe_defaults,
    )
    add_models(verb)
    verb.add_argument(
        "--data",
        required=True,
        type=file_path,
        metavar="DIR",
        help="*.jsonl, compressed or not, of sentence_good and sentence_bad, with UID and linguistics_term or without",
    )
    verb.add_argument("--out", required=True, type=file_path, metavar="DIR", help="probe.jsonl and table.md")
    work = verb.add_argument_group("the work", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--pairs", type=number(COUNT), metavar="N", help="the first N of each paradigm (default: all of them)"
    )
    work.add_argument(
        "--batch-size", type=number(COUNT), metavar="N", help="masked sentences at once (default {default})"
    )


def _probe_defaults() -> dict[str, Any]:
    from ctcd_jax.scoring.probe import probe

    return {name: parameter.default for name, parameter in inspect.signature(probe).parameters.items()}


def _add_glue(verbs) -> None:
    verb = add_verb(
        verbs,
        "glue",
        "exported models -> fine-tuned scores; resumes by itself",
        "Tasks: mnli, qqp, qnli, sst2, cola, stsb, mrpc, rte (the default, as far as --data has them), wnli, or any "
        "folder of --data with train.tsv and dev.tsv; or one task of your own with --task, --columns and --metric.",
        _matrix_defaults,
    )
    add_models(verb, ANY_ENCODER)
    verb.add_argument(
        "--data", required=True, type=located, metavar="WHERE", help="folder of TSV folders, hf[:ID], tfds[:DIR]"
    )
    verb.add_argument("--tasks", metavar="A,B", help="e.g. cola,sst2")
    verb.add_argument(
        "--seeds",
        type=number(Range(1, 10_000, whole=True)),
        default=3,
        metavar="N",
        help="runs of each task (default %(default)s)",
    )
    verb.add_argument(
        "--out", required=True, type=located, metavar="DIR", help="results.jsonl, table.md, table.csv, cells/"
    )
    own = verb.add_argument_group("a task of your own: train and dev as .tsv, .csv or .jsonl in --data")
    own.add_argument("--task", metavar="NAME", help="what to call it")
    own.add_argument("--columns", metavar="C,C", help="one or two texts and the label, by name or position: text,label")
    own.add_argument(
        "--metric", metavar="M,M", help="accuracy, f1, f1_macro, matthews; or, for scores, pearson, spearman"
    )
    own.add_argument("--positive", metavar="CLASS", help="of F1 (default: the last of the two in order)")
    tuning = verb.add_argument_group(
        "hyper-parameters, one set for all tasks and models", argument_default=argparse.SUPPRESS
    )
    tuning.add_argument(
        "--epochs", type=number(Range(0, above=True)), metavar="N", help="default {default}; 0.5: half of the examples"
    )
    tuning.add_argument("--learning-rate", type=number(Range(0, above=True)), metavar="R", help="default {default}")
    tuning.add_argument("--batch-size", type=number(COUNT), metavar="N", help="default {default}")
    tuning.add_argument(
        "--max-length", type=number(Range(8, whole=True)), metavar="N", help="tokens an example (default {default})"
    )
    tuning.add_argument(
        "--grid", action="append", metavar="F=V,V", help="learning_rate=1e-4,3e-4: the best on dev is reported as such"
    )
    tuning.add_argument("--intermediate", metavar="TASK", help="start RTE, MRPC, STS-B from TASK's encoder, e.g. mnli")
    work = verb.add_argument_group("the work", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--jobs",
        type=number(Range(0, MOST_PROCESSES, whole=True)),
        metavar="N",
        help="cells at once (default: one a GPU or core; 0: debug here)",
    )
    work.add_argument("--shard", type=share_of_work, metavar="I/N", help="do one share of N of the cells, 0/N to N-1/N")
    work.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="default: bfloat16 or float16 on GPUs, else float32",
    )
    work.add_argument(
        "--keep-models", action="store_true", help="keep each fine-tuned model for transformers.pipeline, in OUT/cells/"
    )
    work.add_argument("--compile", dest="compiled", action="store_true", help="use torch.compile")


def _matrix_defaults() -> dict[str, object]:
    from ctcd_jax.evaluation.finetune import GlueOptions

    return {field.name: field.default for field in fields(GlueOptions)}


def _add_latency(verbs) -> None:
    verb = add_verb(
        verbs,
        "latency",
        "exported models -> parameters, FLOPs, milliseconds",
        "The first model is the reference of the speed-ups. Every combination of the lists is measured; the first of "
        "them (eager, where that is measured) is the one that reports show.",
        _latency_defaults,
    )
    add_models(verb, ANY_ENCODER)
    verb.add_argument(
        "--out",
        type=file_path,
        metavar="FILE",
        help="also write the figures as JSON; `card` and `report` search for latency.json",
    )
    verb.add_argument(
        "--keep-onnx",
        type=file_path,
        metavar="DIR",
        help="keep the ONNX files that were checked and measured, NAME.onnx; with --runtime onnx",
    )
    grid = verb.add_argument_group(
        "what to measure", "Lists, such as 1,8,32; every combination.", argument_default=argparse.SUPPRESS
    )
    grid.add_argument(
        "--batch-size", dest="batch_sizes", type=count_list, metavar="N,N", help="rows (default {default})"
    )
    grid.add_argument(
        "--length",
        dest="lengths",
        type=count_list,
        metavar="N,N",
        help="tokens a sequence (default: {default} at most)",
    )
    grid.add_argument("--threads", type=count_list, metavar="N,N", help="on the CPU (default: one a core)")
    grid.add_argument(
        "--device", dest="devices", type=name_list, metavar="A,B", help="cpu, cuda (default: cuda if there is a GPU)"
    )
    grid.add_argument(
        "--runtime",
        dest="runtimes",
        type=name_list,
        metavar="A,B",
        help="eager, compile, onnx (CPU only); default {default}",
    )
    grid.add_argument("--dtype", metavar="T", help="float32, bfloat16 or float16 (default {default})")
    grid.add_argument(
        "--rounds", type=number(COUNT), metavar="N", help="timed batches of each model (default {default})"
    )


def _latency_defaults() -> dict[str, Any]:
    from ctcd_jax.latency import latency
    from ctcd_jax.latency.encoders import DEFAULT_LENGTH

    parameters = inspect.signature(latency).parameters
    return {name: parameter.default for name, parameter in parameters.items()} | {"lengths": DEFAULT_LENGTH}
