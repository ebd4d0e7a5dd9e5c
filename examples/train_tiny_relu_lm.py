"""Train the example model ``tiny-relu-lm`` and record its activation traces.

The model is a small OPT-style language model with ReLU feed-forward blocks, trained from scratch on the language
reference that ships with CPython as ``pydoc_data.topics``. The script writes, under ``--out`` (default: beside itself):

``tiny-relu-lm/``
    A Hugging Face checkpoint (fp16 safetensors) with its tokenizer.
``tiny-relu-lm-data/``
    The training and held-out text (gzip) and one activation trace of each (``ripple-place.trace/1``).

Every tenth topic is held out. Topics quote one another (``compound`` contains all of ``if``), so a paragraph that
stands in a held-out topic is taken out of the training text, and a repeated training paragraph is kept once. Where the
two text files exist already they are read instead of the interpreter's topics, so that another Python version trains
on the same text. There is no sparsity regulariser: the sparsity is what training with ReLU gives.

Install torch, transformers, tokenizers, safetensors and numpy, then run::

    python examples/train_tiny_relu_lm.py --out examples

It takes some ten minutes on two idle CPU cores. The seed fixes the initial weights, the dropout and the windows, but
not the rounding of sums over threads: runs follow each other closely, and bit for bit only over short stretches.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pydoc_data.topics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL_NAME = "tiny-relu-lm"
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<unk>"]  # ids 0, 1, 2, 3
VOCABULARY_SIZE = 2048  # tokens
HELD_OUT_EVERY = 10  # topics: one in ten, in sorted order

N_BLOCKS = 4
N_NEURONS = 1024  # per FFN block
HIDDEN_SIZE = 128
N_HEADS = 4
SEQUENCE_LENGTH = 256  # tokens

SEQUENCES_PER_STEP = 8
PEAK_LEARNING_RATE = 3e-3
WARMUP_SHARE = 0.1  # of all steps; then half a cosine down to zero
WEIGHT_DECAY = 0.5  # on matrices only
DROPOUT = 0.3  # high, because the text is small: 94,000 tokens, seen some 43 times
MAX_GRADIENT_NORM = 1.0

N_SEGMENTS = 4  # per trace
SEGMENT_TOKENS = 896  # 4 x 896 tokens x 512 bytes: a trace below 2 MB
STRIDE_TOKENS = SEQUENCE_LENGTH // 2  # of each window the last half is recorded


def paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each paragraph with the key that identifies it: its words, whatever the indentation and line breaks."""
    for paragraph in text.split("\n\n"):
        if key := " ".join(paragraph.split()):
            yield key, paragraph.strip("\n")


def split_topics(topics: dict[str, str]) -> tuple[str, str]:
    """Return the training text (each paragraph once) and the held-out text (whole topics): no paragraph is in both."""
    names = sorted(topics)
    held_out_names = names[::HELD_OUT_EVERY]
    held_out = "\n\n".join(topics[name].strip("\n") for name in held_out_names) + "\n"
    seen = {key for key, _ in paragraphs(held_out)}
    kept = []
    for name in sorted(set(names) - set(held_out_names)):
        for key, paragraph in paragraphs(topics[name]):
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
    return "\n\n".join(kept) + "\n", held_out


def load_texts(data_dir: Path) -> list[str]:
    """Return the training and held-out text from the text files, which are written first if they are missing."""
    paths = data_dir / "topics-train.txt.gz", data_dir / "topics-heldout.txt.gz"
    if not all(path.exists() for path in paths):
        for path, text in zip(paths, split_topics(pydoc_data.topics.topics), strict=True):
            path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    return [gzip.decompress(path.read_bytes()).decode() for path in paths]


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `text`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([text], trainer)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=SEQUENCE_LENGTH, **names)


def build_model(vocabulary_size: int) -> OPTForCausalLM:
    """Return the untrained model."""
    config = OPTConfig(
        vocab_size=vocabulary_size,
        hidden_size=HIDDEN_SIZE,
        word_embed_proj_dim=HIDDEN_SIZE,
        num_hidden_layers=N_BLOCKS,
        num_attention_heads=N_HEADS,
        ffn_dim=N_NEURONS,
        activation_function="relu",
        do_layer_norm_before=True,
        max_position_embeddings=SEQUENCE_LENGTH,
        dropout=DROPOUT,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return OPTForCausalLM(config)


def train(model: OPTForCausalLM, tokens: torch.Tensor, held_out: torch.Tensor, n_steps: int, log_every: int) -> None:
    """Train `model` in place on windows of `tokens` at random offsets; print progress with the loss on `held_out`."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=n_steps, pct_start=WARMUP_SHARE, cycle_momentum=False
    )
    start_s, running_loss = time.monotonic(), 0.0
    for step in range(1, n_steps + 1):
        model.train()
        offsets = torch.randint(len(tokens) - SEQUENCE_LENGTH, (SEQUENCES_PER_STEP, 1))
        batch = tokens[offsets + torch.arange(SEQUENCE_LENGTH)]
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        running_loss += loss.item()
        if step % log_every == 0:
            shares = [f"{active.mean():.3f}" for active in record_activity(model, held_out)[0]]
            print(
                f"step {step}: training loss {running_loss / log_every:.3f}, held-out loss"
                f" {mean_loss(model, held_out):.3f}, active {' '.join(shares)}, {time.monotonic() - start_s:.0f} s",
                flush=True,
            )
            running_loss = 0.0


@torch.no_grad()
def mean_loss(model: OPTForCausalLM, tokens: torch.Tensor) -> float:
    """Return the mean loss (nats per token) over consecutive windows of `tokens`."""
    model.eval()
    windows = tokens[: len(tokens) // SEQUENCE_LENGTH * SEQUENCE_LENGTH].view(-1, SEQUENCE_LENGTH)
    return float(np.mean([model(input_ids=w[None], labels=w[None]).loss.item() for w in windows]))


@torch.no_grad()
def record_activity(model: OPTForCausalLM, tokens: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return, per block, which neurons fire (tokens x neurons), with the token ids and the first row of each segment.

    The segments are spaced evenly over `tokens`. A segment is covered by windows of `SEQUENCE_LENGTH` tokens, each half
    a window after the one before, and only the second half of a window is recorded: every recorded token has at least
    `STRIDE_TOKENS` tokens of context. A neuron fires where the input of `fc2` is exactly non-zero.
    """
    model.eval()
    starts = np.linspace(STRIDE_TOKENS, len(tokens) - SEGMENT_TOKENS, N_SEGMENTS).astype(int) - STRIDE_TOKENS
    strides = np.arange(0, SEGMENT_TOKENS, STRIDE_TOKENS)
    windows = tokens[torch.from_numpy((starts[:, None] + strides).reshape(-1, 1)) + torch.arange(SEQUENCE_LENGTH)]
    rows: list[list[np.ndarray]] = [[] for _ in range(N_BLOCKS)]
    hooks = []
    for layer, block_rows in zip(model.model.decoder.layers, rows, strict=True):

        def keep(_module: torch.nn.Module, inputs: tuple, block_rows: list[np.ndarray] = block_rows) -> None:
            block_rows.append((inputs[0].reshape(-1, N_NEURONS)[-STRIDE_TOKENS:] != 0).numpy())

        hooks.append(layer.fc2.register_forward_pre_hook(keep))
    for window in windows:
        model(input_ids=window[None])
    for hook in hooks:
        hook.remove()
    recorded = windows[:, -STRIDE_TOKENS:].reshape(-1).numpy().astype(np.int32)
    segment_starts = np.arange(N_SEGMENTS, dtype=np.int64) * SEGMENT_TOKENS
    return [np.concatenate(r) for r in rows], recorded, segment_starts


def write_trace(model: OPTForCausalLM, tokens: torch.Tensor, path: Path, dataset: str) -> list[float]:
    """Write the activation trace of `model` on `tokens` to `path` and return the active share of each block."""
    active, recorded, segment_starts = record_activity(model, tokens)
    names = [f"layers.{i}" for i in range(N_BLOCKS)]
    tensors = {f"{n}.active": np.packbits(a, axis=1, bitorder="little") for n, a in zip(names, active, strict=True)}
    metadata = {
        "format": "ripple-place.trace/1",
        "blocks": json.dumps(dict.fromkeys(names, N_NEURONS)),
        "activity": "relu>0",
        "model": MODEL_NAME,
        "dataset": dataset,
    }
    save_file(tensors | {"segment_starts": segment_starts, "tokens": recorded}, path, metadata=metadata)
    return [round(float(a.mean()), 4) for a in active]


def main() -> None:
    """Train the model, save it, reload it and record its traces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="parent of the two folders written")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--log-every", type=int, default=200, help="steps between two reports (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1234, help="of weights and windows (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(arguments.threads)
    model_dir, data_dir = arguments.out / MODEL_NAME, arguments.out / f"{MODEL_NAME}-data"
    data_dir.mkdir(parents=True, exist_ok=True)

    texts = load_texts(data_dir)
    tokenizer = train_tokenizer(texts[0])
    train_tokens, held_out_tokens = (torch.tensor(tokenizer(text, verbose=False)["input_ids"]) for text in texts)
    print(f"tokens: {len(train_tokens)} training, {len(held_out_tokens)} held out, vocabulary {len(tokenizer)}")
    model = build_model(len(tokenizer))
    train(model, train_tokens, held_out_tokens, arguments.steps, arguments.log_every)
    model.half().save_pretrained(model_dir)
    tokenizer.save_pretrained(model_dir)

    model = OPTForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    for name, tokens in (("train", train_tokens), ("heldout", held_out_tokens)):
        shares = write_trace(model, tokens, data_dir / f"{name}.trace.safetensors", f"pydoc_data.topics, {name} text")
        print(f"{name}: loss {mean_loss(model, tokens):.3f} nats per token, active share per block {shares}")


if __name__ == "__main__":
    main()
