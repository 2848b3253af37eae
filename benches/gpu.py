#!/usr/bin/env python3
"""Training and prediction on a GPU, side by side with PyTorch: the same model, batch and precision, in turn.

    python3 benches/gpu.py PROGRAM [--sizes tiny,small,base] [--precisions f32,bf16] [--batch N]

PROGRAM is the benchmark `train`, built with `--features cuda`. The peer is Hugging Face's BertForSequenceClassification in
PyTorch: f32 without TF32, or autocast to bfloat16; a step is forward, mean squared error, backward, the gradient's norm
clipped to 1, fused AdamW, the loss read back. Ours pads a batch to its longest row, 110 tokens here; the peer to 128, as in
the published code, and once more to 110. Prints a table of medians; read the ratios.
"""
import argparse
import re
import statistics
import subprocess
import sys
import time

SIZES = {"tiny": (2, 128, 2, 512), "small": (4, 256, 4, 1024), "base": (12, 768, 12, 3072)}
ROWS, TOKENS = 36, 110


def ours(program, size, precision):
    """Samples/s of training and of inference."""
    done = subprocess.run([program, size, "2", precision, "cuda"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen = re.findall(r"(?:training|inference): ([\d.]+) samples/s", done.stdout)
    if len(seen) != 2:
        sys.exit(f"{size} {precision}\n{done.stdout}{done.stderr}")
    return [float(text) for text in seen]


def torch(size, precision, padded, attention, steps=60):
    """Samples/s of the peer's training and inference."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    layers, hidden, heads, inner = SIZES[size]
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    config = BertConfig(vocab_size=10, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=inner, max_position_embeddings=128, num_labels=1, problem_type="regression",
                        pad_token_id=0)
    config._attn_implementation = attention
    model = BertForSequenceClassification(config).cuda()
    ids = torch.randint(5, 10, (ROWS, padded), device="cuda")
    mask = torch.ones(ROWS, padded, dtype=torch.long, device="cuda")
    ids[:, TOKENS:], mask[:, TOKENS:] = 0, 0
    labels = torch.rand(ROWS, 1, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)

    def cast():
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16")

    def step():
        with cast():
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    def predict():
        with torch.inference_mode(), cast():
            model(input_ids=ids, attention_mask=mask).logits.cpu()

    made = []
    for mode, work in ((model.train, step), (model.eval, predict)):
        mode()
        spent = []
        for _ in range(steps + 5):
            began = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began)
        made.append(ROWS / statistics.median(spent[5:]))
    return made


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("program")
    args.add_argument("--sizes", default="tiny,small,base")
    args.add_argument("--precisions", default="f32,bf16")
    args = args.parse_args()
    import torch as pytorch

    print(f"{pytorch.cuda.get_device_name()}, torch {pytorch.__version__}, samples/s, {ROWS} rows of {TOKENS} tokens")
    print("| model | precision | | ours | torch, eager, 128 | sdpa, 128 | sdpa, 110 | ours / the best of torch |")
    print("|---|---|---|---|---|---|---|---|")
    for size in args.sizes.split(","):
        for precision in args.precisions.split(","):
            our = ours(args.program, size, precision)
            peers = [torch(size, precision, 128, "eager"), torch(size, precision, 128, "sdpa"),
                     torch(size, precision, 110, "sdpa")]
            for i, what in enumerate(("training", "inference")):
                theirs = [peer[i] for peer in peers]
                cells = " | ".join(f"{value:,.0f}" for value in [our[i], *theirs])
                print(f"| {size} | {precision} | {what} | {cells} | {our[i] / max(theirs):.2f} |", flush=True)


if __name__ == "__main__":
    main()
